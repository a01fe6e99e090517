"""Becomes a program that ends with its parent: run as a script, in a fresh interpreter, without the package.

Arguments: parent's pid, uid and gid (-1: keep them), signal, program, the program's arguments.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, uid: int, gid: int, death_signal: int, command: list[str]) -> None:
    """Drop to the user, ask the kernel for the signal on the parent's death, become the program."""
    if uid != -1:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    if sys.platform == "linux":  # after the change of user, which clears it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - that is the job


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
