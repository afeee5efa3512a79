"""A program that trains a toy stage, or a student, as the JSON on the command line says. It runs alone or under torchrun.

    python training_run.py '{"stage": "v98", "data": …, "start": …, "output": …, "changes": {}, "options": {}, "kill": null}'

With ``teacher``, ``changes`` are arguments of `distill`, and ``stage`` is not read.

``kill`` is null or [step, signal]: the process sends itself the signal while it works on that step.
"""

import json
import os
import sys
from typing import Any

import torch
from helpers_training import check_no_gloo_thread, toy

from isc_fast.errors import IscFastError
from isc_fast.training.distillation import distill
from isc_fast.training.loop.learner import Learner
from isc_fast.training.options import RunOptions
from isc_fast.training.run import train_stage

torch.set_num_threads(1)


def signal_at(step: int, number: int) -> None:
    """Make the process send itself the signal when it begins this step, counted from 1."""
    original, done = Learner.step, [0]

    def counted(self: Learner, *args: Any) -> Any:
        done[0] += 1
        if done[0] == step:
            os.kill(os.getpid(), number)
        return original(self, *args)

    Learner.step = counted  # type: ignore[method-assign]


def main() -> int:
    job = json.loads(sys.argv[1])
    if job.get("kill"):
        signal_at(*job["kill"])
    options = RunOptions(**{"device": "cpu", "workers": 0, "log_every": 1, **job.get("options", {})})
    common = {"start": job["start"], "options": options}
    try:
        if "teacher" in job:
            print(distill(job["teacher"], job["data"], job["output"], **common, **job["changes"]))
        else:
            print(train_stage(toy(job["stage"], **job.get("changes", {})), job["data"], job["output"], **common))
    except KeyboardInterrupt:
        return 130
    except IscFastError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    check_no_gloo_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
