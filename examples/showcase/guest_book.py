import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

KEPT_ENTRIES = 50
NAME_CHARACTERS = 40
MESSAGE_CHARACTERS = 280


@dataclass(frozen=True)
class Entry:
    name: str
    message: str
    written: datetime = field(default_factory=lambda: datetime.now().astimezone())


class GuestBook:
    """The newest entries, for requests that run in many threads at once."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT_ENTRIES)
        self._lock = threading.Lock()

    def sign(self, name: str, message: str) -> None:
        """Add an entry, or raise ValueError with a sentence for its author."""
        name, message = name.strip(), message.strip()
        if not name or not message:
            raise ValueError("Please give both a name and a message.")
        if len(name) > NAME_CHARACTERS or len(message) > MESSAGE_CHARACTERS:
            raise ValueError(
                f"A name may have {NAME_CHARACTERS} characters,"
                f" a message {MESSAGE_CHARACTERS}."
            )
        with self._lock:
            self._entries.appendleft(Entry(name, message))

    def newest_first(self) -> list[Entry]:
        # Iterating a deque fails if another thread adds to it meanwhile.
        with self._lock:
            return list(self._entries)
