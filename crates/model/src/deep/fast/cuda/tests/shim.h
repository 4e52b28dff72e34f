// Emulates a CUDA device when the kernels are compiled as C++: threads are fibers that run one at a time and yield at
// barriers, so that a missing barrier shows up as wrong values if the order of threads changes.

#include <cmath>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <ucontext.h>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define DYNAMIC_SHARED(type, name) type* name = (type*)current->block->shared.data()
#define WHILE_WAITING() give_way(Waiting::nothing)

struct float2 {
    float x, y;
};
struct float4 {
    float x, y, z, w;
};
struct Index {
    unsigned x, y, z;
};

enum class Waiting { nothing, block, warp };

struct Gate {
    unsigned arrived = 0, generation = 0;
};

struct Warp {
    Gate gate;
    float slots[32];
};

struct Block {
    Index index;
    unsigned alive = 0;
    Gate gate;
    std::vector<Warp> warps;
    std::vector<double> shared;
};

struct Fiber {
    jmp_buf context;
    ucontext_t start;
    Index thread;
    Block* block;
    Waiting waiting;
    unsigned generation;
    bool started = false, done;
};

static Fiber* current;
static jmp_buf scheduler;
static Index grid, block_size;
static void (*kernel)(void**);
static void** kernel_arguments;

#define threadIdx (current->thread)
#define blockIdx (current->block->index)
#define gridDim grid
#define blockDim block_size

static void give_way(Waiting waiting) {
    current->waiting = waiting;
    if (_setjmp(current->context) == 0) {
        _longjmp(scheduler, 1);
    }
}

// Waits until `count` threads have arrived.
static void pass(Gate& gate, unsigned count, Waiting waiting) {
    current->generation = gate.generation;
    if (++gate.arrived == count) {
        gate.arrived = 0;
        gate.generation++;
    } else {
        give_way(waiting);
    }
}

static Warp& warp() {
    return current->block->warps[current->thread.x / 32];
}

static void __syncthreads() {
    pass(current->block->gate, current->block->alive, Waiting::block);
}

static void __syncwarp() {
    pass(warp().gate, 32, Waiting::warp);
}

static float __shfl_xor_sync(unsigned, float value, unsigned distance) {
    unsigned lane = current->thread.x % 32;
    warp().slots[lane] = value;
    __syncwarp();
    float other = warp().slots[lane ^ distance];
    __syncwarp();
    return other;
}

static float __fdividef(float left, float right) {
    return left / right;
}

static void __threadfence() {}

static void atomicAdd(unsigned* counter, unsigned value) {
    *counter += value;
}

static float __ldcg(const float* from) {
    return *from;
}

static void fiber_main() {
    for (;;) {
        kernel(kernel_arguments);
        Block& block = *current->block;
        block.alive--;
        if (block.alive > 0 && block.gate.arrived == block.alive) {
            block.gate.arrived = 0;
            block.gate.generation++;
        }
        current->done = true;
        give_way(Waiting::nothing);
    }
}

static bool can_run(const Fiber& fiber) {
    switch (fiber.waiting) {
    case Waiting::block:
        return fiber.block->gate.generation != fiber.generation;
    case Waiting::warp:
        return fiber.block->warps[fiber.thread.x / 32].gate.generation != fiber.generation;
    default:
        return !fiber.done;
    }
}

static void resume(Fiber* fiber) {
    current = fiber;
    fiber->waiting = Waiting::nothing;
    if (_setjmp(scheduler) == 0) {
        if (fiber->started) {
            _longjmp(fiber->context, 1);
        }
        fiber->started = true;
        setcontext(&fiber->start);
    }
}

static const size_t STACK = 64 << 10;

static Fiber* fiber_at(size_t index) {
    static std::vector<Fiber*> fibers;
    while (fibers.size() <= index) {
        Fiber* fiber = new Fiber();
        getcontext(&fiber->start);
        fiber->start.uc_stack.ss_sp =
            mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        fiber->start.uc_stack.ss_size = STACK;
        fiber->start.uc_link = nullptr;
        makecontext(&fiber->start, fiber_main, 0);
        fibers.push_back(fiber);
    }
    return fibers[index];
}

// Runs these blocks to completion; returns false on a deadlock.
static bool run_blocks(std::vector<Block>& blocks, unsigned threads, size_t shared, bool backwards) {
    std::vector<Fiber*> fibers;
    for (Block& block : blocks) {
        block.alive = threads;
        block.warps.resize((threads + 31) / 32);
        // Shared memory is initialised to NaN.
        block.shared.assign(shared / 8 + 2, std::nan(""));
        for (unsigned thread = 0; thread < threads; thread++) {
            Fiber* fiber = fiber_at(fibers.size());
            fiber->thread = {thread, 0, 0};
            fiber->block = &block;
            fiber->waiting = Waiting::nothing;
            fiber->done = false;
            fibers.push_back(fiber);
        }
    }
    size_t left = fibers.size(), turns = 0;
    while (left > 0) {
        bool moved = false;
        for (size_t index = 0; index < fibers.size(); index++) {
            Fiber* fiber = fibers[backwards ? fibers.size() - 1 - index : index];
            if (can_run(*fiber)) {
                resume(fiber);
                left -= fiber->done;
                moved = true;
            }
        }
        if (!moved || ++turns > 100000000) {
            return false;
        }
    }
    return true;
}

template <auto function> struct Call;

template <typename... Arguments, void (*function)(Arguments...)> struct Call<function> {
    static constexpr unsigned count = sizeof...(Arguments);

    template <size_t... Index> static void spread(void** from, std::index_sequence<Index...>) {
        function(*(std::decay_t<Arguments>*)from[Index]...);
    }

    static void run(void** from) {
        spread(from, std::index_sequence_for<Arguments...>());
    }
};

struct Entry {
    void (*run)(void**);
    unsigned count;
};

extern const Entry entries[];

// Returns 0 on success, 1 if the number of arguments is not the kernel's, 2 if its threads are deadlocked.
extern "C" int emulate(
    unsigned index, unsigned x, unsigned y, unsigned z, unsigned threads, size_t shared, int together, int backwards,
    void** arguments, unsigned count
) {
    if (entries[index].count != count) {
        return 1;
    }
    kernel = entries[index].run;
    kernel_arguments = arguments;
    grid = {x, y, z};
    block_size = {threads, 1, 1};
    std::vector<Block> blocks;
    for (unsigned number = 0; number < x * y * z; number++) {
        Block block;
        block.index = {number % x, number / x % y, number / x / y};
        blocks.push_back(block);
        if (!together) {
            if (!run_blocks(blocks, threads, shared, backwards)) {
                return 2;
            }
            blocks.clear();
        }
    }
    return blocks.empty() || run_blocks(blocks, threads, shared, backwards) ? 0 : 2;
}
