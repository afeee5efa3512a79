"""What is otherwise where an extraction plans containers and not their images; see `isc_fast.sources.whole_containers`."""

from __future__ import annotations

from collections.abc import Callable

from ..descriptors.provenance import ExtractionFacts
from ..errors import FormatError, InputError, MismatchError
from ..sources.containers import file_of
from ..sources.stamps import stamp_of, stamps_of
from .job import Listed, Request
from .output_folder import OutputFolder
from .plan import Plan, container_shard_size, folder_shard_size


def check_request(request: Request) -> None:
    """Refuse what needs the list of all images.

    Raises:
        InputError: the request asks for it.
    """
    for name in ("limit", "keep_gone"):
        if request.by_container and getattr(request, name):
            raise InputError(
                f"--{name.replace('_', '-')} (in Python {name}) counts images, and --by-container (in Python by_container) does "
                "not list them; leave one out"
            )


def part_size(request: Request, listed: Listed) -> Callable[[int, int, int], int]:
    """What gives the size of a shard by the number of items, the batch size and the number of views."""
    if not request.by_container:
        return folder_shard_size
    sizes = stamps_of([item.path for item in listed.items])[:, 0]
    return lambda count, _batch, _views: container_shard_size(count, int(sizes[sizes > 0].sum()))


def check_same_containers(
    request: Request, out: OutputFolder, plan: Plan, made: ExtractionFacts, same_stamps: bool
) -> None:
    """See that a finished result was made of the same containers. It is not brought up to date.

    Raises:
        MismatchError: it was not.
        InputError: failed images cannot be tried again.
    """
    instead = "give another output" + ("" if out.home.once else ", or --overwrite it")
    if made.by_container != request.by_container:
        how = (
            "with --by-container (in Python by_container)" if made.by_container else "by images, without --by-container"
        )
        raise MismatchError(f"{out.address} was planned {how}: run the same command again, or {instead}")
    if made.plan_id != plan.id or not same_stamps:
        words = _difference(out, made, plan)
        raise MismatchError(
            f"{out.address} was made otherwise ({words}), and by containers nothing is updated: {instead}"
        )
    if request.retry_failed:
        raise InputError(
            f"{out.address} was planned by container, and images that failed cannot be tried again alone: {instead}"
        )


def _difference(out: OutputFolder, made: ExtractionFacts, plan: Plan) -> str:
    """How the containers of a finished result differ from those of a plan, in words."""
    if (made.engine_id, made.decoder, made.batch_size) != (plan.engine_id, plan.decoder, plan.batch_size):
        return "by another engine, decoder or batch size"
    try:
        stored = out.plan_folder(made.plan_id).found_plan()
    except FormatError:
        stored = None
    if stored is None:
        return "of other containers"
    then = {item.id: item.path for item in stored.items}
    now = {item.id: item.path for item in plan.items}
    changed = next((id_ for id_ in now if id_ in then and stamp_of(then[id_]) != stamp_of(now[id_])), None)
    if changed is not None:
        return f"{file_of(now[changed])} has changed"
    new, gone = len(now.keys() - then.keys()), len(then.keys() - now.keys())
    return f"{new} containers are new, {gone} gone" if new or gone else "the same containers in another order"
