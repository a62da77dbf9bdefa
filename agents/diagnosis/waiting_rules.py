"""Rules for warps that wait while no unit is busy: for what, and why no others can run. Data."""

from agents.diagnosis.rules import Condition, DeviceRule, Treatment, at_least, at_most
from agents.replies import Movement

_SOL = "the tool's Speed Of Light rules: below 60 % no unit limits, from 80 % one does"
_SHARE = "a third of the waiting is the least that one edit can show in the time"
_LITTLE = "Little's law: HBM wants 20 to 40 KB a multiprocessor on their way, some 25 warps' loads"
_WAVES = "a last wave a fifth empty costs a fifth of the time of so few waves"
_FILL = "a block has one multiprocessor; those without a block do nothing"

_FEW_WARPS = Condition(
    signal="occupancy_bound",
    op="<=",
    threshold=0.4,
    sure=0.15,
    source=_LITTLE,
    # Warps hide latency, not shares of what fits: 25 of 64, or of the 48 that these hold.
    by_arch={"sm_86": 0.53, "sm_87": 0.53, "sm_89": 0.53, "sm_120": 0.53},
)

WAITING_RULES: tuple[DeviceRule, ...] = (
    DeviceRule(
        name="barriers",
        bottleneck="barrier_synchronisation",
        tier=3,
        conditions=(
            at_least("stall_sync", 0.3, 0.6, _SHARE),
            at_most("busiest", 0.75, 0.5, _SOL, is_needed=False),
        ),
        because=(
            "warps stand at a barrier until the last of their block arrives",
            "uneven work between barriers, or many of them, leaves the schedulers nothing to issue",
        ),
        others_are_weaker="no unit is busy, and no other reason keeps as many warps waiting",
        treatment=Treatment(
            change="let fewer threads wait: spread what few threads do between barriers over all, "
            "synchronise warps instead of blocks (__syncwarp, shuffles), or use smaller blocks so "
            "that others run meanwhile",
            expects=Movement(metric="stall_sync", direction="down", factor=0.5),
            validation="the barrier's share of the stalls falls, and the time with it",
            by_arch={
                "sm_90": "let fewer threads wait: spread what few threads do between barriers over "
                "all, replace block barriers by mbarriers that each stage of a pipeline arrives "
                "at, or use smaller blocks so that others run meanwhile",
            },
        ),
        query="barrier synchronisation warp specialisation pipeline stages mbarrier",
    ),
    DeviceRule(
        name="instruction_fetch",
        bottleneck="instruction_fetch",
        tier=3,
        conditions=(
            at_least("stall_front_end", 0.25, 0.5, _SHARE),
            at_most("busiest", 0.8, 0.5, _SOL, is_needed=False),
        ),
        because=(
            "warps wait for their next instruction or its constants to arrive from a cache",
            "the code that runs is larger than the instruction cache, or jumps about in it",
        ),
        others_are_weaker="no unit is busy, and the data are not what the warps wait for",
        treatment=Treatment(
            change="make the code that runs smaller: unroll less (#pragma unroll 4), move rare "
            "branches out of the loop, split the kernel, or read constants as arguments",
            expects=Movement(metric="stall_front_end", direction="down", factor=0.5),
            validation="no_instruction's share of the stalls falls, and the time with it",
        ),
        query="instruction cache unroll code size",
    ),
    DeviceRule(
        name="tail_wave",
        bottleneck="tail",
        tier=3,
        conditions=(
            at_least("tail_fraction", 0.2, 0.4, _WAVES),
            at_most("waves", 6.0, 3.0, _WAVES),
            at_most("active_fraction", 0.9, 0.7, _WAVES, is_needed=False),
        ),
        because=(
            "the last wave of blocks fills a part of the machine and takes as long as a full one",
            "a grid of whole waves, or blocks that fetch their work, leaves no such remainder",
        ),
        others_are_weaker="averages over the kernel are low because of the idle last wave",
        treatment=Treatment(
            change="make the grid a whole number of waves: a persistent kernel with as many blocks "
            "as are resident, or a tile size whose count divides evenly",
            expects=Movement(metric="tail_fraction", direction="down", factor=0.3),
            validation="multiprocessors active nearly all the time, and the time falls",
            by_arch={
                "sm_100": "make the grid a whole number of waves: a persistent kernel that fetches "
                "tiles by cluster launch control, or a tile size whose count divides evenly",
            },
        ),
        query="wave quantisation persistent kernel tile scheduler",
    ),
    DeviceRule(
        name="uneven_blocks",
        bottleneck="tail",
        tier=3,
        conditions=(
            at_most("balance_fraction", 0.75, 0.5, "active cycles of the average and of the last"),
            at_least("grid_fraction", 1.0, 1.0, _FILL),
        ),
        because=("some multiprocessors work much longer than the average one",),
        others_are_weaker="averages over the kernel are low because most multiprocessors are done",
        treatment=Treatment(
            change="even out the blocks: smaller pieces of work, the longest first, or a counter "
            "from which persistent blocks fetch their next piece",
            expects=Movement(metric="balance_fraction", direction="up", factor=1.3),
            validation="active cycles of average and busiest multiprocessor meet",
        ),
        query="load balance persistent kernel work queue",
    ),
    DeviceRule(
        name="small_grid",
        bottleneck="small_grid",
        tier=3,
        conditions=(
            at_most("grid_fraction", 0.75, 0.4, _FILL),
            at_most("active_fraction", 0.8, 0.5, _FILL, is_needed=False),
        ),
        because=(
            "there are fewer blocks than multiprocessors, so a part of the machine has no work",
        ),
        others_are_weaker="what the few busy multiprocessors wait for matters less than the others",
        treatment=Treatment(
            change="split the work over more blocks: along the reduced axis with a second pass or "
            "atomics (split-K), or smaller tiles",
            expects=Movement(metric="time_us", direction="down", factor=0.6),
            validation="as many blocks as multiprocessors or more, and the time falls",
        ),
        query="split-k small grid parallelism",
    ),
    DeviceRule(
        name="low_occupancy",
        bottleneck="low_occupancy",
        tier=3,
        conditions=(
            _FEW_WARPS,
            at_most("busiest", 0.6, 0.3, _SOL),
            at_most("issue_fraction", 0.6, 0.3, _SOL, is_needed=False),
        ),
        because=(
            "few warps can be resident, so nobody runs while one waits",
            "no unit is busy; more warps, or more loads in flight a warp, would fill the gaps",
        ),
        others_are_weaker="what the warps wait for would hide behind others if there were others",
        treatment=Treatment(
            change="allow more resident warps",
            expects=Movement(metric="occupancy_fraction", direction="up", factor=2.0),
            validation="occupancy as predicted by the arithmetic, and the time falls",
            by_limiter={
                "registers": "allow more resident warps: cap the registers with a second argument "
                "of __launch_bounds__, or keep fewer values a thread; stop before it spills",
                "shared_mem": "allow more resident blocks: a smaller tile or fewer stages in "
                "shared memory, or values in registers that shared memory now holds",
                "blocks": "use larger blocks: the multiprocessor is full of blocks, not of warps",
                "warps": "use blocks whose warps divide what a multiprocessor holds",
                "barriers": "use fewer named barriers a block, or smaller blocks",
            },
        ),
        query="occupancy registers shared memory tile stages",
    ),
    DeviceRule(
        name="memory_latency",
        bottleneck="memory_latency",
        tier=5,
        conditions=(
            at_least("stall_memory", 0.4, 0.75, _SHARE),
            at_most("dram_fraction", 0.6, 0.45, _SOL, is_needed=False),
            at_most("memory_busy", 0.85, 0.8, _SOL, is_needed=False),
            at_most("work_busy", 0.6, 0.4, _SOL, is_needed=False),
        ),
        because=(
            "warps wait for loads (long scoreboard) while DRAM and pipes have time left",
            "too few bytes are on their way at once to hide how long each takes",
        ),
        others_are_weaker="neither memory's bandwidth nor a pipe is used up",
        treatment=Treatment(
            change="have more loads in flight: several independent loads a thread before their "
            "first use (unroll, 16 bytes each), or more warps; a chain of dependent loads needs "
            "another data structure or several chains a thread",
            expects=Movement(metric="stall_memory", direction="down", factor=0.8),
            validation="the long scoreboard's share falls and the DRAM's rises, with the time",
            by_arch={
                "sm_80": "have more loads in flight: fetch the next tile with cp.async while this "
                "one is used, or several independent loads a thread before their first use",
                "sm_90": "have more loads in flight: several independent loads a thread before "
                "their first use, more warps, or TMA into a pipeline of stages; a chain of "
                "dependent loads needs another data structure or several chains a thread",
            },
        ),
        query="memory latency loads in flight prefetch cp.async tma pipeline",
    ),
    DeviceRule(
        name="shared_memory_latency",
        bottleneck="shared_memory_latency",
        tier=5,
        conditions=(
            at_least("stall_shared", 0.4, 0.7, _SHARE),
            at_most("busiest", 0.7, 0.5, _SOL, is_needed=False),
        ),
        because=(
            "warps wait for shared memory or special functions (short scoreboard, MIO throttle)",
            "their queue is full of small requests, its data path is not",
        ),
        others_are_weaker="no unit is busy, and global memory is not what the warps wait for",
        treatment=Treatment(
            change="ask less often: 16 bytes a thread from shared memory, values kept in registers "
            "or passed by shuffles, loads issued before the arithmetic that uses them",
            expects=Movement(metric="stall_shared", direction="down", factor=0.7),
            validation="the short scoreboard's share falls, and the time with it",
        ),
        query="shared memory latency mio throttle vectorised shuffle",
    ),
    DeviceRule(
        name="matrix_latency",
        bottleneck="tensor_pipe",
        tier=5,
        conditions=(at_least("stall_tensor", 0.3, 0.6, _SHARE),),
        because=("warps wait for products of the matrix units that they have just asked for",),
        others_are_weaker="what waits longest waits for the matrix units",
        treatment=Treatment(
            change="keep two groups of products in flight: wait for the one before the last, and "
            "let one warp group compute while another finishes its tile (ping-pong)",
            expects=Movement(metric="pipe_tensor", direction="up", factor=1.25),
            validation="the matrix units' share rises, and the time falls",
        ),
        query="wgmma pipeline warp specialisation ping-pong",
    ),
    DeviceRule(
        name="execution_latency",
        bottleneck="execution_latency",
        tier=5,
        conditions=(
            at_least("stall_execution", 0.4, 0.7, _SHARE),
            at_most("busiest", 0.7, 0.5, _SOL, is_needed=False),
        ),
        because=(
            "each instruction waits for the one before it (wait), a fixed number of cycles",
            "more independent chains a thread, or more warps, would use them",
        ),
        others_are_weaker="no unit is busy, and memory is not what the warps wait for",
        treatment=Treatment(
            change="give each thread independent work: two to four accumulators, or outputs, that "
            "do not depend on one another",
            expects=Movement(metric="issue_fraction", direction="up", factor=1.3),
            validation="issued instructions a cycle rise, and the time falls",
        ),
        query="instruction level parallelism independent accumulators",
    ),
    DeviceRule(
        name="nothing_busy",
        bottleneck="latency",
        tier=6,
        conditions=(
            at_most("busiest", 0.5, 0.0, _SOL),
            at_least("stalls_untold", 1.0, 2.0, "what warps wait for was not exported"),
        ),
        because=("no unit is busy, so warps wait; for what was not exported",),
        others_are_weaker="memory and multiprocessors both have half of their time left",
        treatment=Treatment(
            change="capture what the warps wait for (`ncu --set full --import-source on`); until "
            "then, have more independent work in flight: more warps, or more loads a thread",
            expects=Movement(metric="time_us", direction="down", factor=0.85),
            validation="the next digest names the reason for waiting",
        ),
        query="latency occupancy independent work",
    ),
)
