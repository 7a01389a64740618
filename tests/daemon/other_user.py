"""Run as root: becomes another user for good, then asks a daemon. What to ask comes as JSON lines, answers go the same
way. The interpreter may lie where that user cannot go, so that everything is imported before."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from dlqueue.client import Client, RpcError


def main() -> None:
    socket, uid = Path(sys.argv[1]), int(sys.argv[2])
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.chdir("/")
    with Client(socket) as client:
        for line in sys.stdin:
            method, params = json.loads(line)
            try:
                answer = {"result": client.call(method, params)}
            except RpcError as error:
                answer = {"error": {"code": error.code, "message": error.message}}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
