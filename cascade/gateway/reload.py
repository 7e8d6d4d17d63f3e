"""Reloads policies, calibrations and keys while the gateway runs: a file with an error never replaces a good one."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cascade.errors import CascadeError
from cascade.policy import load as files
from cascade.util.log_events import Event

from .auth.key_store import KeyStore
from .auth.keys_in_service import read_keys
from .environment import load_policies
from .state import Gateway, ReloadStatus

log = logging.getLogger("cascade.gateway")

EVERY_S = 0.5
ALARM_EVERY_S = 60.0
EXPIRY_EVERY_S, EXPIRES_SOON_S = 86_400.0, 7 * 86_400.0

_Stamp = tuple[int, int, int]


class Reloader:
    """Checks twice a second whether the policy file, a calibration that it names or the keys have changed.

    Args:
        gateway: The gateway whose files are watched.
        path: The policy file; None: only the keys are watched.
    """

    def __init__(self, gateway: Gateway, path: Path | None) -> None:
        self._gateway, self._path, self._keys = gateway, path, gateway.key_store
        self._policies_stamp, self._keys_stamp = _stamp(path), self._keys and self._keys.stamp()
        self._calibrations = _calibrations(path)
        self._next_alarm = self._next_expiry_check = 0.0

    async def watch(self) -> None:
        """Checks until it is cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.check()
            except Exception as error:  # whatever is wrong with a file, the configuration in service stays
                log.error("cannot check the files for changes (%s)", type(error).__name__)

    async def check(self) -> None:
        """Loads what has changed."""
        now = _stamp(self._path)
        if now != self._policies_stamp or any(_stamp(path) != stamp for path, stamp in self._calibrations.items()):
            # Before they are read, so that a change in the meantime is seen at the next check.
            self._policies_stamp, self._calibrations = now, await asyncio.to_thread(_calibrations, self._path)
            await self.reload()
        if self._keys is not None:
            await self._reload_keys(self._keys)
        self._say_what_expires()

    async def _reload_keys(self, store: KeyStore) -> None:
        """Puts changed keys into service. A store that cannot be read is tried again at the next check."""
        try:
            stamp = await asyncio.to_thread(store.stamp)
            if stamp == self._keys_stamp and self._gateway.keys_stale_since is None:
                return
            self._gateway.keys.replace(await asyncio.to_thread(read_keys, store))
        except CascadeError as error:
            now = time.monotonic()
            since = self._gateway.keys_stale_since or now
            self._gateway.keys_stale_since = since
            # At once, then every minute: until the file can be read, a revoked key stays valid.
            if now >= self._next_alarm:
                self._next_alarm = now + ALARM_EVERY_S
                log.error("keys not reloaded for %.0f s, the previous ones stay in service: %s", now - since, error)
            return
        # Stored only now: what changed while the store could not be read is not missed.
        self._keys_stamp, self._next_alarm = stamp, 0.0
        if self._gateway.keys_stale_since is not None:
            self._gateway.keys_stale_since = None
            log.warning("%s: keys reloaded", store.where)

    def _say_what_expires(self) -> None:
        """Names the keys that expire soon, once a day."""
        now = time.monotonic()
        if now < self._next_expiry_check:
            return
        self._next_expiry_check = now + EXPIRY_EVERY_S
        for key in self._gateway.keys.expiring(EXPIRES_SOON_S):
            log.warning(Event("an API key expires soon; rotate it", key=key.name, expires=_date(key.expires)))

    async def reload(self) -> None:
        """Puts the policy file into service if it has no error."""
        gateway, status = self._gateway, self._gateway.reload_status
        try:
            file = await asyncio.to_thread(load_policies, self._path)
            config = gateway.prepare(file)
            unusable = await config.unusable()
            lost = unusable.keys() - status.unusable.keys() & gateway.active.file.policies.keys()
            if lost:
                config.retire()
                raise CascadeError("; ".join(f"policies.{name}: {unusable[name]}" for name in sorted(lost)))
        except CascadeError as error:
            gateway.reload_status = replace(status, error=str(error), failed=time.time())
            log.error("policies not reloaded, the previous ones stay in service: %s", error)
            return
        fixed = [key for key in ("journal", "state", "telemetry") if getattr(file, key) != getattr(gateway.active.file, key)]
        gateway.activate(config)
        note = f"{' and '.join(fixed)}: changes take effect at the next start" if fixed else None
        now = time.time()
        gateway.reload_status = ReloadStatus(loaded=now, error=note, failed=now if note else None, unusable=unusable)
        log.warning("%s: reloaded%s", self._path, f"; {note}" if note else "")


def _date(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _calibrations(path: Path | None) -> Mapping[Path, _Stamp | None]:
    """The calibrations that the policy file names, with their stamps."""
    return {calibration: _stamp(calibration) for calibration in files.calibrations(path)} if path is not None else {}


def _stamp(path: Path | None) -> _Stamp | None:
    """Differs when a file was changed or replaced by another one; None where there is no file."""
    try:
        stat = path.stat() if path is not None else None
    except OSError:
        return None
    return None if stat is None else (stat.st_mtime_ns, stat.st_size, stat.st_ino)
