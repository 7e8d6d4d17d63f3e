"""Policies, calibrations and keys that change while the gateway runs: a bad file never takes a good one's place."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cascade.errors import CascadeError
from cascade.gateway.auth.key_file import KeyFile
from cascade.policy import load as files

if TYPE_CHECKING:
    from cascade.gateway.state import Gateway

log = logging.getLogger("cascade.gateway")

EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Status:
    """What is in service: since when (Unix seconds), and why the file as it stands now is not (None: it is).

    ``unusable`` are policies that cannot be asked as the gateway is set up, by why.
    """

    loaded: float
    error: str | None = None
    failed: float | None = None
    unusable: Mapping[str, str] | None = None


class Reloader:
    """Looks once a second whether the policy file, a calibration that it names or the key file has changed."""

    def __init__(self, gateway: "Gateway", path: Path | None, keys: KeyFile | None) -> None:
        self._gateway, self._path, self._keys = gateway, path, keys
        self._policies_were, self._keys_were = _stamp(path), _stamp(keys.path if keys is not None else None)
        self._calibrations = _calibrations(path)
        self.status = Status(time.time())

    async def watch(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.look()
            except Exception as error:  # whatever happens to a file, what is in service stays in service
                log.error("the files could not be looked at (%s)", type(error).__name__)

    async def look(self) -> None:
        """Loads what has changed."""
        now = _stamp(self._path)
        if now != self._policies_were or any(_stamp(path) != was for path, was in self._calibrations.items()):
            # Before they are read, so that a change meanwhile is seen the next time.
            self._policies_were, self._calibrations = now, await asyncio.to_thread(_calibrations, self._path)
            await self.reload()
        if self._keys is not None and (stamp := _stamp(self._keys.path)) != self._keys_were:
            self._keys_were = stamp
            try:
                self._gateway.keys.replace(await asyncio.to_thread(self._keys.read))
            except CascadeError as error:
                log.error("the keys stay as they were: %s", error)

    async def reload(self) -> None:
        """Puts the policy file into service if it is good."""
        gateway = self._gateway
        try:
            file = await asyncio.to_thread(files.load, self._path)
            serving = gateway.prepare(file)
            unusable = await serving.unusable()
            lost = unusable.keys() - (self.status.unusable or {}).keys() & gateway.serving.file.policies.keys()
            if lost:
                serving.retire()
                raise CascadeError("; ".join(f"policies.{name}: {unusable[name]}" for name in sorted(lost)))
        except CascadeError as error:
            self.status = Status(self.status.loaded, str(error), time.time(), self.status.unusable)
            log.error("the policies stay as they were: %s", error)
            return
        fixed = [key for key in ("journal", "telemetry") if getattr(file, key) != getattr(gateway.serving.file, key)]
        gateway.swap(serving)
        told = f"{' and '.join(fixed)}: changes count from the next start on" if fixed else None
        self.status = Status(time.time(), told, time.time() if told else None, unusable)
        log.warning("%s: in service%s", self._path, f"; {told}" if told else "")


def _calibrations(path: Path | None) -> dict[Path, tuple[int, int, int] | None]:
    """The calibrations that the policy file names, as they stand now."""
    return {found: _stamp(found) for found in files.calibrations(path)} if path is not None else {}


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    """Changes with a file; also with one that was put in its place."""
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)
