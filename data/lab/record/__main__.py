"""`python3 -m record`: records the corpus or a part of it, unattended, and leaves nothing running."""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from . import authority, cut, manifest, media, packages, plan
from .kind import Lab
from .network import close_all, remove_leftovers
from .session import SharedTor, record

CORPUS = Path(__file__).resolve().parent.parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="just lab record", description="Records labelled traffic of real programs in network namespaces. Needs root; every packet stays on this machine.",
                                     epilog="Examples: just lab record    just lab record --only voip --folder /tmp/voip    just lab record --list")
    parser.add_argument("--only", action="append", metavar="WORD", help="a kind, category, application or tunnel, TUNNEL-CATEGORY or TUNNEL-KIND; repeat for several")
    parser.add_argument("--seed", type=int, default=1, help="of addresses, links, sizes, think times and settings (default 1)")
    parser.add_argument("--folder", type=Path, default=CORPUS / "captures", help="where captures go (default: the corpus itself)")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "etcbench-lab", help="where programs, pages and whole captures are kept meanwhile")
    parser.add_argument("--side-by-side", type=int, default=12, metavar="N", help="captures recorded at the same time (default 12)")
    parser.add_argument("--flows", type=int, metavar="N", help="flows per capture, in place of the plan's")
    parser.add_argument("--captures", type=int, metavar="N", help="captures of each kind and tunnel, in place of the plan's")
    parser.add_argument("--longest", type=float, default=600.0, metavar="SECONDS", help="a capture ends then whatever it has (default 600)")
    parser.add_argument("--skip-recorded", action="store_true", help="leave captures alone that are there already")
    parser.add_argument("--list", action="store_true", help="print what would be recorded and stop")
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    modules = plan.all_kinds()
    planned = plan.plan(modules, chosen.only, chosen.flows, chosen.captures)
    if not planned:
        print(f"nothing is called {' or '.join(chosen.only)}; there are: {', '.join(modules)}", file=sys.stderr)
        return 2
    if chosen.list:
        for capture in planned:
            print(f"{capture.stem}  {capture.protocol}  {capture.flows} flows")
        print(f"{len(planned)} captures")
        return 0
    kinds = [modules[name].KIND for name in sorted({capture.kind.name for capture in planned})]
    problems = packages.missing(kinds)
    if problems:
        print("\n".join(f"cannot record: {problem}" for problem in problems), file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for namespace in remove_leftovers():
        print(f"removed {namespace}, left over from a recording that was killed")
    chosen.scratch.mkdir(parents=True, exist_ok=True)
    tools = packages.python_tools(chosen.scratch / "tools", kinds)
    run_folder = chosen.scratch / f"run-{os.getpid()}"
    certificate, key = authority.create(run_folder / "authority")
    lab = Lab(chosen.seed, certificate, key, media.make(chosen.scratch / f"media-{chosen.seed}", chosen.seed), tools)
    for module in modules.values():
        if module.KIND in kinds and hasattr(module, "prepare"):
            module.prepare(lab)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    if chosen.skip_recorded:
        planned = [capture for capture in planned if not (chosen.folder / f"{capture.stem}.pcap.zst").exists()]
    # Dear kinds spread over the whole run, not side by side.
    random.Random(chosen.seed).shuffle(planned)
    return run(planned, modules, lab, chosen, run_folder)


def run(planned, modules, lab: Lab, chosen, run_folder: Path) -> int:
    started, failures, rows = time.monotonic(), [], []
    lock = threading.Lock()
    tor = None
    pool = concurrent.futures.ThreadPoolExecutor(chosen.side_by_side)
    # All that goes over Tor shares one network, and no more at a time than it has addresses for.
    over_tor = concurrent.futures.ThreadPoolExecutor(min(7, chosen.side_by_side))
    try:
        if any(capture.tunnel == "tor" for capture in planned):
            print("starting the private Tor network beside the rest (about a minute)", flush=True)
            tor = over_tor.submit(SharedTor, lab, run_folder)

        def one(capture):
            # What fails once is tried again with other draws, in a folder of its own.
            for attempt in range(2):
                folder = run_folder / (capture.stem + ("-again" if attempt else ""))
                folder.mkdir(parents=True, exist_ok=True)
                try:
                    done = record(capture, modules[capture.kind.name], lab, folder, tor.result() if capture.tunnel == "tor" else None, chosen.longest, attempt)
                    break
                except Exception as error:
                    if attempt:
                        raise
                    print(f"{capture.stem} is tried again: {str(error)[:300]}", flush=True)
            written = [store(chosen.folder / f"{capture.stem}.pcap.zst", done.inside)]
            if done.outside is not None:
                written.append(store(chosen.folder / "outside" / f"{capture.stem}.pcap.zst", done.outside))
            return done, written

        waiting = {(over_tor if capture.tunnel == "tor" else pool).submit(one, capture): capture for capture in planned}
        for count, future in enumerate(concurrent.futures.as_completed(waiting), 1):
            capture = waiting[future]
            try:
                done, written = future.result()
            except Exception as error:  # every failure is told at the end, and the recording's exit code is 1
                failures.append(f"{capture.stem}: {error}")
                print(f"[{count}/{len(waiting)}] {capture.stem}: FAILED: {str(error)[:600]}", flush=True)
                continue
            with lock:
                rows.append(done)
                manifest.append(chosen.folder, done, lab.seed)
            short = "" if done.inside.flows >= capture.flows else f", fewer than the {capture.flows} planned"
            print(f"[{count}/{len(waiting)}] {capture.stem}: {done.inside.flows} flows of {done.sessions} sessions in {done.seconds:.0f} s, {sum(written) // 1000} kB"
                  + (f", {done.failed} sessions failed ({done.errors[-1][:300]})" if done.failed else "") + (f", {done.dropped} packets missed" if done.dropped else "") + short, flush=True)
            if not done.failed:
                shutil.rmtree(done.folder / "hosts", ignore_errors=True)
    except BaseException:
        for future in locals().get("waiting", {}):
            future.cancel()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        over_tor.shutdown(wait=False, cancel_futures=True)
        if tor is not None and tor.done() and tor.exception() is None:
            tor.result().close()
    manifest.write_programs(chosen.folder, [modules[name].KIND for name in sorted({capture.kind.name for capture in planned})], lab)
    print(f"recorder {os.getpid()} has ended: {len(rows)} captures, {sum(row.inside.flows for row in rows)} flows in {(time.monotonic() - started) / 60:.1f} minutes")
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def store(path: Path, result: cut.Cut) -> int:
    """Writes a cut capture compressed; gives its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = path.with_suffix("")
    cut.write(plain, result)
    subprocess.run(["zstd", "-q", "-f", "-19", "--rm", str(plain), "-o", str(path)], check=True)
    return path.stat().st_size


if __name__ == "__main__":
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    # Threads of a recording that was interrupted are still at it: their hosts are taken away, and they are not waited for.
    close_all()
    sys.stdout.flush()
    os._exit(code)
