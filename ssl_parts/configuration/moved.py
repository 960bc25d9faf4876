"""Keys of earlier versions: what to write in their place."""

MOVED: dict[str, str] = {}
