"""Runs Python blocks one after another in one namespace: a JSON document a line in, one out."""

import contextlib
import io
import json
import sys
import traceback

namespace: dict[str, object] = {"__name__": "__main__"}
answers = sys.stdout
sys.path.insert(0, "")
for line in sys.stdin:
    output = io.StringIO()
    error = None
    with contextlib.redirect_stdout(output):
        try:
            exec(compile(json.loads(line), "<the page>", "exec"), namespace)  # noqa: S102 - that is what it is for
        except BaseException:  # noqa: BLE001 - whatever it is, the page is wrong
            error = traceback.format_exc()
    print(json.dumps([output.getvalue(), error]), file=answers, flush=True)
