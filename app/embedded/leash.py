"""Starts a program that cannot outlive the process that asked for it.

`python leash.py SIGNAL PARENT_PID USER PROGRAM [ARGUMENT ...]`: the kernel sends SIGNAL (a number) to the program when
the thread that started it ends, `kill -9` included (Linux; elsewhere only an orderly stop ends the program). A program
of its own instead of `preexec_fn`, which is unsafe where there are threads. USER may be empty: the program keeps the
caller's.
"""

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1


def become(user: str) -> None:
    """Drops root's rights for those of `user`."""
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def main(arguments: list[str]) -> None:
    """Replaces this process by the program."""
    death_signal, parent_pid, user, *command = arguments
    if user:
        become(user)
    if sys.platform == "linux":
        # After `become`: a change of user clears the death signal.
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != int(parent_pid):
            sys.exit(f"the process that wanted {command[0]} ended before it started")
    # Python ignores these two, and ignored signals survive exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execv(command[0], command)  # noqa: S606 the caller names the program by its path


if __name__ == "__main__":
    main(sys.argv[1:])
