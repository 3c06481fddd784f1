"""The `Accept` header (RFC 9110)."""


def preferred(accept: str | None, first: str, *others: str) -> str:
    """The media type on offer that a client wants most; in doubt the earlier one, `first` without a wish."""
    wishes = dict(_wish(part) for part in (accept or "").lower().split(",") if part.strip())

    def quality(media_type: str) -> float:
        kind = media_type.partition("/")[0]
        return next((wishes[name] for name in (media_type, f"{kind}/*", "*/*") if name in wishes), 0.0)

    return max((first, *others), key=quality)


def _wish(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip() for piece in part.split(";"))
    weight = next((item.removeprefix("q=") for item in parameters if item.startswith("q=")), "1")
    try:
        return name, float(weight)
    except ValueError:
        return name, 0.0
