"""Whose key is this? The keys file in memory, read again when it has changed."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from app.contract.telemetry import KeysRead, Observer, Observers
from app.contract.terms import NO_TERMS, Terms
from app.keys.file import KeysFileError, read, records
from app.keys.record import KeyRecord, hash_of
from app.settings import SettingsError

_log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""The file is looked at no more often than this."""

_State = tuple[int, int, int, int]


class KeyBook:
    """Used on the event loop alone. Without a file nobody needs a key. Raises SettingsError for an unusable file.

    A file that becomes unusable later changes nothing: the keys that were read last stay, and the log says so, once
    for each change of the file, and so do the metrics.
    """

    def __init__(
        self, file: Path | None, observers: Observer | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._file = file
        self._observers = observers or Observers()
        self._clock = clock
        self._state: _State | None = None
        self._looked_at = clock()
        self._by_hash: dict[str, KeyRecord] = {}
        self._terms: dict[str, Terms] = {}
        if file is None:
            return
        try:
            self._read(file, _state_of(file))
        except KeysFileError as error:
            raise SettingsError(f"API_KEYS_FILE: {error}") from None

    @property
    def required(self) -> bool:
        """Whether requests need a key."""
        return self._file is not None

    def find(self, key: str) -> KeyRecord | None:
        """The key's record, also of one that has ended (`KeyRecord.ended`); None for an unknown key.

        Keys are looked up by their hash. How long that takes tells nothing of a key: who could use it would have to
        know a key's hash, which does not lead to the key.
        """
        self._look_again()
        return self._by_hash.get(hash_of(key))

    def terms(self, name: str) -> Terms:
        """Of the key with that name; of one that is no longer in the file the last ones, for requests that came
        before."""
        return self._terms.get(name, NO_TERMS)

    def _look_again(self) -> None:
        now = self._clock()
        if self._file is None or now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        state = _state_of(self._file)
        if state == self._state:
            return
        try:
            self._read(self._file, state)
        except KeysFileError as error:
            self._observers.notify(KeysRead(outdated=True))
            _log.error("the API keys were not read again, those of before stay in force: %s", error)
        else:
            _log.info("the API keys were read again: %d", len(self._by_hash))

    def _read(self, file: Path, state: _State | None) -> None:
        """`state` is that from before the reading: what changes meanwhile is seen next time. Raises KeysFileError."""
        self._state = state
        found = records(read(file))
        if not found:
            raise KeysFileError(f"{file} has no key, so nobody could use this server.")
        self._by_hash = {record.sha256: record for record in found}
        self._terms |= {record.name: record.terms for record in found}
        self._observers.notify(KeysRead(outdated=False, names=tuple(record.name for record in found)))


def _state_of(file: Path) -> _State | None:
    """Differs when the file has changed or was replaced, or when another may read it; None when there is none."""
    try:
        about = file.stat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
