# ruff: noqa: E501
"""Programs that try to be graded 1.0 although they are wrong, or to get out: what `test_escapes.py` runs.

``{canary}`` and other names in braces are those of the `World` that the test sets up.
"""

# Of these the tests want ``double(2) == 4`` and ``double(3) == 6``; the program has it wrong.
WRONG = "def double(x): return 3 * x\n"
_FRAMES = """
import sys
f = sys._getframe()
while f:
    f.f_globals.update(PASSED='passed', FAILED='passed', UNTOLD='passed')
    for value in list(f.f_locals.values()):
        if hasattr(value, 'channel'):
            value.channel.broken = ''
    f = f.f_back
"""
_LIAR = """
class Liar({base}):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __bool__ = lambda *_: True
"""
_SENDS = """
import os, json, struct
def say(message):
    data = json.dumps(message).encode()
    for fd in range(3, 64):
        try: os.write(fd, struct.pack('>I', len(data)) + data)
        except OSError: pass
"""
_CTYPES = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
FORGED = {
    "frames walked to the runner": _FRAMES + WRONG,
    "frames walked from a call": f"def double(x):\n    exec({_FRAMES!r}, {{}})\n    return 3 * x",
    "a verdict written to every descriptor": (
        "import os\nfor fd in range(64):\n    try: os.write(fd, b'[\"passed\", \"\"]')\n    except OSError: pass\n" + WRONG
    ),
    "a verdict written in a call": (
        "import os\ndef double(x):\n    for fd in range(64):\n        try: os.write(fd, b'[\"passed\", \"\"]')\n"
        "        except OSError: pass\n    os._exit(0)"
    ),
    "names sent before the program has ended": _SENDS + "say(['names', []])\nos._exit(0)",
    "replies sent before the request": _SENDS + "say(['names', [['double', ['h', 0, '']]]])\n"
    "for _ in range(9): say(['!', '0' * 16, 'returned', 4, [], ''])\nimport time; time.sleep(60)",
    "an outcome of another kind": _SENDS + "say(['names', [['double', ['h', 0, '']]]])\nsay(['passed', ''])\nimport time; time.sleep(60)",
    "an outcome that is a call": _SENDS
    + "def double(x): say(['?', 'x', ['call', 0], [], []]); return 3 * x",
    "the tests' function asked for by number": _SENDS + "def double(x): say(['?', 'x', ['get', 0, '__globals__'], [], []])",
    "the tests' object asked for": _SENDS + "say(['names', [['double', ['o', 0]]]])\nos._exit(0)",
    "a name that is exit": _SENDS + "say(['names', [['double', ['B', 'exit']]]])\nos._exit(0)",
    "a frame without end": _SENDS + "for fd in range(3, 64):\n    try: os.write(fd, b'\\xff\\xff\\xff\\xff' + b'x' * 1000)\n    except OSError: pass\n" + WRONG,
    "a frame nested deeply": _SENDS + "def double(x):\n    for fd in range(3, 64):\n        try: os.write(fd, struct.pack('>I', 200000) + b'[' * 200000)\n        except OSError: pass",
    "a flood of frames": _SENDS + "def double(x):\n    while True: say(['?', 'x', ['call', 0], [], []])",
    "a huge reply": "def double(x): return 'x' * (200 << 20)",
    "a huge number": "def double(x): return 10 ** 10_000_000",
    "an equal object": _LIAR.format(base="object") + "def double(x): return Liar()",
    "an object without difference": "class Liar:\n    __sub__ = __rsub__ = lambda *_: 0\ndef double(x): return Liar()",
    "an object whose difference is its own": "class Liar:\n    __sub__ = __rsub__ = lambda s, o: s\n    __abs__ = lambda s: 0\ndef double(x): return Liar()",
    "an int without difference": "class Liar(int):\n    __sub__ = __rsub__ = lambda *_: 0\ndef double(x): return Liar()",
    "an array by protocol": "class Liar:\n    __array_priority__ = 99\n    def __array_function__(self, *_): return True\n    def __array_ufunc__(self, *_, **__): return True\ndef double(x): return Liar()",
    "a mangled name": _SENDS + "say(['names', [['__name__', '__main__'], ['__builtins__', 1], ['double', 4]]])\nos._exit(0)",
    "an equal int": _LIAR.format(base="int") + "def double(x): return Liar(3)",
    "an equal str": _LIAR.format(base="str") + "def double(x): return Liar('3')",
    "an equal list": _LIAR.format(base="list") + "def double(x): return Liar()",
    "an equal class": "class M(type):\n    __eq__ = lambda *_: True\n    __hash__ = type.__hash__\nclass double(metaclass=M):\n    def __init__(self, x): pass\n    __eq__ = lambda *_: True",
    "a class that says it is int": "class Liar:\n    __class__ = int\n    __eq__ = lambda *_: True\n    __hash__ = None\ndef double(x): return Liar()",
    "an equal array": "class Liar:\n    __module__ = 'numpy'\n    dtype = type('D', (), {'str': '<i8'})\n    shape = ()\n    def tobytes(self): return b'0' * 8\n    __eq__ = lambda *_: True\ndef double(x): return Liar()",
    "an array of objects": _SENDS + "say(['names', [['double', ['np', '|O', [1], '00000000', True]]]])\nos._exit(0)",
    "mock's ANY": "from unittest.mock import ANY\ndef double(x): return ANY",
    "a mock": "from unittest.mock import MagicMock\ndouble = MagicMock()",
    "an exception class that passes": "class E(BaseException):\n    __eq__ = lambda *_: True\n    __hash__ = None\ndef double(x): raise E",
    "SystemExit": "def double(x): raise SystemExit(0)",
    "os._exit": "import os\ndef double(x): os._exit(0)",
    "exit at import": "import os\nos._exit(0)",
    "killed by its own signal": "import os, signal\ndef double(x): os.kill(os.getpid(), signal.SIGKILL)",
    "StopIteration": "def double(x): raise StopIteration",
    "GeneratorExit": "def double(x): raise GeneratorExit",
    "AssertionError redefined": "import builtins\nbuiltins.AssertionError = type('Never', (Exception,), {})\n" + WRONG,
    "built-in functions redefined": "import builtins\nbuiltins.abs = builtins.exec = builtins.compile = lambda *_: 4\n" + WRONG,
    "a built-in function's name taken": "def abs(x): return 4\n" + WRONG,
    "the wire redefined": "import sys\nfor name, m in list(sys.modules.items()):\n    if 'sandbox' in name:\n        for n in dir(m):\n            if n.startswith('un') or n == 'result_of': setattr(m, n, lambda *_: 4)\n" + WRONG,
    "the memory searched for tests": "import gc\nfound = [o for o in gc.get_objects() if isinstance(o, (str, bytes)) and 'double(2)' in str(o)]\ndef double(x):\n    assert found\n    return {2: 4, 3: 6}[x]",
    "the heap searched for tests": _CTYPES + "import sys\ndef double(x):\n    o = id(sys.modules)\n    for a in range(o - (1 << 16), o, 64):\n        if b'double(2) == ' in ctypes.string_at(a, 64): return 2 * x\n    return 3 * x",
    "sitecustomize written": "import os, sys\nfor d in sys.path:\n    for n in ('sitecustomize.py', 'x.pth'):\n        try: open(os.path.join(d, n), 'w').write('import os; os._exit(0)')\n        except OSError: pass\n" + WRONG,
    "the checker's modules written": "import json\nopen(json.__file__, 'a').write('x')\n" + WRONG,
    "a module put where the tests import": "import os\nfor d in ('/tmp', '.', os.getcwd()):\n    open(d + '/math.py', 'w').write('x')\n" + WRONG,
    "a debugger on the parent": _CTYPES + "import os\nassert libc.ptrace(16, os.getppid(), 0, 0) == 0\ndef double(x): return 2 * x",
    "all processes killed": "import os\nos.kill(-1, 9)\ndef double(x): return 2 * x",
    "threads without end": "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(9,)).start()",
    "forks without end": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "memory without end": "x = []\nwhile True: x.append(bytearray(1 << 20))",
    "files without end": "n = 0\nwhile True:\n    open(f'f{n}', 'wb').write(b'x' * 100000); n += 1",
    "recursion without end": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f(x)\nf(1)",
    "output without end": "while True: print('x' * 10000)",
    "signals ignored, a loop": "import signal\nfor s in range(1, 32):\n    try: signal.signal(s, signal.SIG_IGN)\n    except OSError: pass\nwhile True: pass",
    "a limit raised": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\ndef double(x): return 2 * x",
    "arguments changed": "def double(x):\n    x[:] = []\n    return 0",
    "printed results": "print('passed')\nprint('[\"passed\", \"\"]')\n" + WRONG,
    "a module that judges redefined": "class math:\n    isclose = lambda *_: True\n" + WRONG,
}  # fmt: skip
# Of these the tests want that ``leak()`` returns the canary.
STOLEN = {
    "a file": "def leak(): return open('{canary}').read()",
    "a file by its directory": "import os\ndef leak(): return os.read(os.open('canary', 0, dir_fd=os.open('{folder}', 0)), 99).decode()",
    "a file by dots": "def leak(): return open('../../../../../../..{canary}').read()",
    "a file by a link": "import os\ndef leak():\n    os.symlink('{canary}', 'x')\n    return open('x').read()",
    "a file by a hard link": "import os\ndef leak():\n    os.link('{canary}', 'x')\n    return open('x').read()",
    "a file by the root of process 1": "def leak(): return open('/proc/1/root{canary}').read()",
    "a file by the parent's folder": "def leak(): return open('/proc/self/cwd/../{canary}').read()",
    "a file by sqlite": "import sqlite3\ndef leak(): return str(sqlite3.connect('file:{canary}?mode=ro', uri=True).execute('select 1 from sqlite_master').fetchall()) + open('{canary}').read()",
    "a file by an open descriptor's folder": "import os\ndef leak():\n    for fd in range(64):\n        try:\n            os.fchdir(fd)\n            return open('..' * 9 + '{canary}').read()\n        except OSError: pass",
    "a file by chroot": "import os\ndef leak():\n    os.chroot('.')\n    return open('{canary}').read()",
    "a file by its handle": _CTYPES + "def leak():\n    h = ctypes.create_string_buffer(b'\\x80\\0\\0\\0' + bytes(132)); m = ctypes.c_int()\n    assert libc.open_by_handle_at(-100, h, 0) >= 0\n    return open('{canary}').read()",
    "a file by openat2": _CTYPES + "import os\ndef leak():\n    fd = libc.syscall(437, -100, b'{canary}', bytes(24), 24)\n    return os.read(fd, 99).decode()",
    "a file by a new mount": _CTYPES + "def leak():\n    libc.unshare(0x10020000); libc.mount(b'/dev/vda', b'/tmp', b'ext4', 0, None)\n    libc.mount(b'proc', b'/tmp', b'proc', 0, None)\n    return open('/tmp/1/root{canary}').read()",
    "a file by io_uring": _CTYPES + "import os\ndef leak():\n    p = ctypes.create_string_buffer(120)\n    assert libc.syscall(425, 8, p) >= 0\n    return open('{canary}').read()",
    "a file by a program": "import subprocess\ndef leak(): return subprocess.check_output(['cat', '{canary}'], text=True)",
    "a file by fork_exec": "import sys\ndef leak():\n    sys.modules.pop('_posixsubprocess', None)\n    import subprocess\n    return subprocess.run(['/bin/cat', '{canary}'], capture_output=True, text=True).stdout",
    "a file by a program in memory": "import os\ndef leak():\n    fd = os.memfd_create('x'); os.write(fd, open('/lib64/ld-linux-x86-64.so.2', 'rb').read())\n    os.execve(fd, ['x', '/bin/cat', '{canary}'], {{}})",
    "a key in the environment": "import os\ndef leak(): return str(dict(os.environ))",
    "a key in the environment's memory": _CTYPES + "def leak():\n    e = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, 'environ'); i = 0; found = []\n    while e and e[i]: found.append(e[i].decode()); i += 1\n    return str(found)",
    "a key in another environment": "import glob\ndef leak(): return ''.join(open(p, errors='replace').read() for p in glob.glob('/proc/*/environ'))",
    "another process's memory": _CTYPES + "def leak():\n    class V(ctypes.Structure): _fields_ = [('b', ctypes.c_void_p), ('n', ctypes.c_size_t)]\n    b = ctypes.create_string_buffer(99); l, r = V(ctypes.addressof(b), 99), V(0x400000, 99)\n    assert libc.process_vm_readv({victim}, ctypes.byref(l), 1, ctypes.byref(r), 1, 0) > 0\n    return '{secret}'",
    "a device": "import os\ndef leak():\n    for n in ('vda', 'sda', 'mem', 'kmsg', 'nvme0n1'):\n        try: return open('/dev/' + n, 'rb').read(9) and '{secret}'\n        except OSError: pass",
    "a device made": "import os\ndef leak():\n    os.mknod('d', 0o60600, os.makedev(254, 0)); open('d', 'rb').read(9)\n    return '{secret}'",
    "shared memory": "def leak(): return open('/dev/shm/{shared}').read()",
    "shared memory of System V": _CTYPES + "def leak():\n    assert libc.shmget(0x5ca5cade, 99, 0o666) >= 0\n    return '{secret}'",
    "passwords": "def leak(): return open('/etc/passwd').read() and '{secret}'",
    "the host's processes": "import os\ndef leak(): return '{secret}' if any(n.isdigit() for n in os.listdir('/proc')) else ''",
    "the kernel's keys": _CTYPES + "def leak():\n    assert libc.syscall(250, 0, -3, 1) >= 0\n    return '{secret}'",
    "recordings of the package": "import glob, sys\ndef leak(): return '{secret}' if any(glob.glob(d + '/evals/**/*.gz', recursive=True) for d in sys.path) else ''",
    "the tests' folder": "import os\ndef leak(): return '{secret}' if os.path.exists('{folder}') else ''",
}  # fmt: skip
# Of these something outside is looked at afterwards.
REACHED = {
    "a TCP server": "import socket\nsocket.create_connection(('127.0.0.1', {port}))",
    "a TCP server by asyncio": "import asyncio\nasyncio.run(asyncio.open_connection('127.0.0.1', {port}))",
    "a UDP server": "import socket\nsocket.socket(2, 2).sendto(b'x', ('127.0.0.1', {udp}))",
    "a Unix socket": "import socket\nsocket.socket(1).connect('{unix}')",
    "an abstract Unix socket": "import socket\nsocket.socket(1).connect('\\0{abstract}')",
    "a Unix socket by datagrams": "import socket\na, b = socket.socketpair(1, 2)\na.sendto(b'x', '{unix}')",
    "a Unix socket by a pair": "import socket\na, b = socket.socketpair()\na.sendto(b'x', '{unix}')",
    "a Unix socket by connect alone": _CTYPES + "fd = libc.socket(1, 1, 0)\nlibc.connect(fd, b'\\1\\0' + b'{unix}' + bytes(9), 110)",
    "a Unix socket by uvloop": "import uvloop, asyncio\nasync def go(): await asyncio.get_running_loop().create_unix_connection(asyncio.Protocol, '{unix}')\nuvloop.run(go())",
    "a TCP server by uvloop": "import uvloop, asyncio\nasync def go(): await asyncio.open_connection('127.0.0.1', {port})\nuvloop.run(go())",
    "a TCP server by urllib": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:{port}/')",
    "a TCP server by a program": "import os\nos.system('python3 -c \"import socket; socket.create_connection((0x7f000001, {port}))\"')",
    "a process killed": "import os\nos.kill({victim}, 9)",
    "a process killed by pidfd": "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open({victim}), 9)",
    "a process killed by its thread": _CTYPES + "import os\nlibc.syscall(234 if os.uname().machine == 'x86_64' else 131, {victim}, {victim}, 9)",
    "a process killed by a descriptor's signal": "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, 8, {victim})\nfcntl.fcntl(r, 10, 9)\nfcntl.fcntl(r, 4, 0o20000)\nos.write(w, b'x')",
    "a process stopped by its limits": "import resource\nresource.prlimit({victim}, resource.RLIMIT_CPU, (0, 0))",
    "a group killed": "import os\nos.killpg(os.getpgid({victim}), 9)",
    "a file written": "open('{folder}/made', 'w').write('x')",
    "a file written by its directory": "import os\nos.open('made', os.O_CREAT | os.O_WRONLY, dir_fd=os.open('{folder}', 0))",
    "a file removed": "import os\nos.remove('{canary}')",
    "a file removed by its directory": "import os\nos.unlink('canary', dir_fd=os.open('{folder}', 0))",
    "a file's mode changed": "import os\nos.chmod('{canary}', 0)",
    "a file truncated": "import os\nos.truncate('{canary}', 0)",
    "a database made": "import sqlite3\nsqlite3.connect('{folder}/made').execute('create table t (x)')",
    "a database attached": "import sqlite3\nsqlite3.connect(':memory:').execute(\"attach '{folder}/made' as a\").execute('create table a.t (x)')",
    "a pipe made": "import os\nos.mkfifo('{folder}/made')",
    "a socket made": "import socket\nsocket.socket(1).bind('{folder}/made')",
    "a key log written": "import ssl\nssl.create_default_context().keylog_filename = '{folder}/made'",
    "shared memory made": "from multiprocessing import shared_memory\nshared_memory.SharedMemory('{mark}', create=True, size=9)",
    "a log written": "import logging\nlogging.basicConfig(filename='{folder}/made')\nlogging.error('x')",
    "a process left": "import subprocess\nsubprocess.Popen(['sleep', '{mark}'], start_new_session=True)",
    "a process left by fork": "import os\nif os.fork() == 0:\n    os.setsid()\n    os.execvp('sleep', ['sleep', '{mark}'])",
    "a process left by posix_spawn": "import os\nos.posix_spawn('/bin/sleep', ['sleep', '{mark}'], {{}})",
    "a process left by fork_exec": "import _posixsubprocess, os\nr, w = os.pipe()\n_posixsubprocess.fork_exec([b'sleep', b'{mark}'], [b'/bin/sleep'], True, (w,), None, None, -1, -1, -1, -1, -1, -1, r, w, True, True, -1, None, None, None, -1, None, False)",
    "a process left by vfork": _CTYPES + "libc.syscall(58)\nlibc.execv(b'/bin/sleep', (ctypes.c_char_p * 3)(b'sleep', b'{mark}', None))",
    "a process left by clone3": _CTYPES + "libc.syscall(435, bytes(88), 88)\nlibc.execv(b'/bin/sleep', (ctypes.c_char_p * 3)(b'sleep', b'{mark}', None))",
    "a process left by multiprocessing": "import multiprocessing as m, time\nm.get_context('fork').Process(target=time.sleep, args=(60,)).start()",
    "a process by a program's namespace": _CTYPES + "libc.setns(0, 0)\nlibc.unshare(0x10000000)\nimport os\nos.system('sleep {mark}')",
    "a filter taken off": _CTYPES + "libc.prctl(22, 0, 0, 0, 0)\nlibc.syscall(317, 0, 0, None)\nimport os\nos.system('sleep {mark}')",
    "calls under other numbers": _CTYPES + "libc.syscall(0x40000000 + 57)\nimport os\nos.system('sleep {mark}')",
}  # fmt: skip
# Each with the tests that it would pass.
AROUND = {
    "an exception that ends a loop": (
        "def double(x): raise StopIteration",
        "assert all(map(lambda x: double(x) == 2 * x, (2, 3)))\nassert list(iter(lambda: double(1), 2)) == []",
    ),
    "a test skipped": (
        "import unittest\ndef double(x): raise unittest.SkipTest",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(double(2), 4)\n"
        "r = unittest.TestResult()\nT('test').run(r)\nassert r.wasSuccessful()",
    ),
    "a failure kept by a context": (
        "class Box:\n    def __enter__(self): return self\n    def __exit__(self, *_): return True\n    def get(self): return 1",
        "with Box() as b:\n    assert b.get() == 2",
    ),
    "an error kept by a context": (
        "class Box:\n    def __enter__(self): return self\n    def __exit__(self, *_): return True\n    def get(self): raise KeyError",
        "with Box() as b:\n    assert b.get() == 2",
    ),
    "a failure kept in a callback": (
        "def each(f):\n    try: f(1)\n    except BaseException: pass",
        "def check(x): assert x == 2\neach(check)",
    ),
    "a broken pipe kept by the tests": (
        "import os\ndef double(x): os._exit(0)",
        "try: assert double(2) == 4\nexcept BaseException: pass",
    ),
    "an equal method": ("class L:\n    def __eq__(self, o): return True\ndef double(x): return L()", "assert double(2).__eq__(4)"),
    "a prefix of all": ("class L:\n    def startswith(self, o): return True\ndef f(x): return L()", "assert f(1).startswith('a')"),
    "a difference from nothing": ("class L:\n    def __xor__(self, o): return set()\ndef f(): return L()", "assert not f() ^ {1}"),
    "a value that changes": (
        "n = [9, 0]\nclass L(int):\n    def __int__(self): return n.pop(0)\ndef f(): return L()",
        "r = f()\nassert r > 3\nassert r < 5",
    ),
    "a list that changes": (
        "n = [[1], [2]]\nclass L(list):\n    def __iter__(self): return iter(n.pop(0))\ndef f(): return L()",
        "r = f()\nassert r == [1]\nassert r == [2]",
    ),
    "a reversed comparison": ("class L(int):\n    def __eq__(self, o): return True\n    __hash__ = int.__hash__\ndef f(): return [L()]", "assert [4] == f()"),
    "a member of all": ("class L:\n    def __contains__(self, o): return True\ndef f(): return L()", "assert 4 in f()"),
}  # fmt: skip
