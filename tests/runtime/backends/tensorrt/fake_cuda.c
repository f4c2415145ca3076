/* A fake libcuda.so.1: host memory stands in for a GPU, and the rules are CUDA's own.
 *
 * It has what pycuda calls to run one engine; test_cuda.py adds the names that pycuda only links to.
 * A thread without a current context is refused (201). Addresses on the "device" cannot be read by
 * the processor. Copies and work on a stream happen when the stream, or an event after them, is
 * waited for, and not before: whoever looks into a buffer too early finds what was there. An error
 * that breaks a context (700) is given by every call from then on. What is forgotten, freed twice
 * or freed while work with it is queued is counted, and fake_cuda_count tells.
 *
 *   cc -shared -fPIC -pthread -o libcuda.so.1 fake_cuda.c
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201, INVALID_HANDLE = 400, ILLEGAL_ADDRESS = 700,
    CONTEXT_IS_DESTROYED = 709,
};
enum { ROOM = 4096, DEPTH = 8 };

typedef void (*Work)(void *);
typedef struct { char *address, *memory; size_t bytes; int pinned; } Block;
typedef struct Stream { int live; } Stream;
typedef struct Event { int live; unsigned long recorded; } Event;
typedef struct {
    Stream *stream;
    unsigned long number;
    char *to, *from;
    size_t bytes;
    Work work;
    void *with;
    int mark;
} Step;

/* What fake_cuda_count tells, by name. */
static struct {
    int device, pinned, streams, events; /* alive now */
    int retained;                        /* holders of the primary context */
    int double_frees, freed_in_flight, pageable_copies, without_context, lost;
    int threads;                         /* threads that ever made a context current */
    int flying, most_flying;             /* events recorded and not reached */
    int busy_events;                     /* made to spin, or to keep time that nobody reads */
    int calls;                           /* all that needed a context */
} count;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Block blocks[ROOM];
static Step queue[ROOM];
static int queued;
static unsigned long numbers;
static int started, broken, context_of_device;
static pid_t opened_by;
static long threads[ROOM];
static __thread void *stack[DEPTH];
static __thread int depth;
static struct { char name[64]; int after, code; } failure;

/* ---- for tests ---- */

#define COUNT(NAME) if (!strcmp(name, #NAME)) return count.NAME
int fake_cuda_count(const char *name)
{
    COUNT(device); COUNT(pinned); COUNT(streams); COUNT(events); COUNT(retained);
    COUNT(double_frees); COUNT(freed_in_flight); COUNT(pageable_copies); COUNT(without_context);
    COUNT(lost); COUNT(threads); COUNT(flying); COUNT(most_flying); COUNT(calls);
    COUNT(busy_events);
    return -1;
}

int fake_cuda_live_allocations(void)
{
    return count.device + count.pinned + count.streams + count.events;
}

/* Let the call NAME fail with CODE once it went well AFTER times; a CODE of 0 mends it. */
void fake_cuda_fail(const char *name, int after, int code)
{
    strncpy(failure.name, name, sizeof failure.name - 1);
    failure.after = after;
    failure.code = code;
}

/* Where a device address really lies: for work on the fake GPU alone. */
void *fake_cuda_memory(uintptr_t address)
{
    for (int i = 0; i < ROOM; i++)
        if (blocks[i].address && !blocks[i].pinned && address >= (uintptr_t)blocks[i].address
            && address < (uintptr_t)blocks[i].address + blocks[i].bytes)
            return blocks[i].memory + (address - (uintptr_t)blocks[i].address);
    return NULL;
}

/* ---- the rules ---- */

static int may_call(const char *name)
{
    if (failure.code && !strcmp(name, failure.name) && --failure.after < 0) {
        if (failure.code >= ILLEGAL_ADDRESS) broken = failure.code;
        return failure.code;
    }
    if (!started || getpid() != opened_by) return NOT_INITIALIZED;
    return OK;
}

static int may_use(const char *name)
{
    int code = may_call(name);
    if (code) return code;
    count.calls++;
    if (!depth) { count.without_context++; return INVALID_CONTEXT; }
    if (!count.retained) return CONTEXT_IS_DESTROYED;
    return broken;
}

#define CALL(NAME) { int code_ = may_call(#NAME); if (code_) return code_; }
#define USE(NAME) { int code_ = may_use(#NAME); if (code_) return code_; }

static void came_here(void)
{
    long thread = syscall(SYS_gettid);
    for (int i = 0; i < count.threads; i++) if (threads[i] == thread) return;
    if (count.threads < ROOM) threads[count.threads++] = thread;
}

static Block *holding(const void *from, size_t bytes, int pinned)
{
    for (int i = 0; i < ROOM; i++) {
        Block *b = &blocks[i];
        if (b->address && b->pinned == pinned && (char *)from >= b->address
            && (char *)from + bytes <= b->address + b->bytes) return b;
    }
    return NULL;
}

static int allocate(void **address, size_t bytes, int pinned)
{
    if (!bytes) return INVALID_VALUE;
    for (int i = 0; i < ROOM; i++) {
        Block *b = &blocks[i];
        if (b->address) continue;
        b->memory = malloc(bytes);
        memset(b->memory, 0xff, bytes); /* NaN */
        b->address = pinned ? b->memory
            : mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        b->bytes = bytes;
        b->pinned = pinned;
        *(pinned ? &count.pinned : &count.device) += 1;
        *address = b->address;
        return OK;
    }
    return OUT_OF_MEMORY;
}

static void forget(Block *b)
{
    if (!b->pinned) munmap(b->address, b->bytes);
    memset(b->memory, 0xee, b->bytes);
    free(b->memory);
    b->address = NULL;
    *(b->pinned ? &count.pinned : &count.device) -= 1;
}

static int release(void *address, int pinned)
{
    for (int i = 0; i < ROOM; i++)
        if (blocks[i].address == address && blocks[i].pinned == pinned) {
            if (queued) count.freed_in_flight++;
            queued = 0; /* what was to be done might touch it */
            forget(&blocks[i]);
            return OK;
        }
    count.double_frees++;
    return INVALID_VALUE;
}

static int put(Stream *stream, Step step)
{
    if (stream && !stream->live) return INVALID_HANDLE;
    if (queued == ROOM) return OUT_OF_MEMORY;
    step.stream = stream;
    step.number = ++numbers;
    pthread_mutex_lock(&lock);
    queue[queued++] = step;
    pthread_mutex_unlock(&lock);
    return OK;
}

/* Do what is queued on a stream, to its end or to a step. */
static int drain(Stream *stream, unsigned long last)
{
    for (;;) {
        pthread_mutex_lock(&lock);
        int i = 0;
        while (i < queued && (queue[i].stream != stream || queue[i].number > last)) i++;
        if (i == queued) { pthread_mutex_unlock(&lock); return broken; }
        Step step = queue[i];
        memmove(&queue[i], &queue[i + 1], (--queued - i) * sizeof(Step));
        if (step.mark) count.flying--;
        if (step.to && !broken) memcpy(step.to, step.from, step.bytes);
        pthread_mutex_unlock(&lock);
        if (step.work && !broken) step.work(step.with); /* it may want Python's lock: hold none */
    }
}

/* ---- the driver ---- */

int cuInit(unsigned flags)
{
    if (!started) {
        const char *fail = getenv("FAKE_CUDA_FAIL"); /* NAME:AFTER:CODE */
        if (fail) sscanf(fail, "%63[^:]:%d:%d", failure.name, &failure.after, &failure.code);
        started = 1;
        opened_by = getpid();
    }
    return getpid() == opened_by ? OK : NOT_INITIALIZED;
}

int cuDriverGetVersion(int *version)
{
    const char *text = getenv("FAKE_CUDA_VERSION");
    *version = text ? atoi(text) : 99000;
    return OK;
}

int cuGetErrorString(int code, const char **text)
{
    switch (code) {
    case OUT_OF_MEMORY: *text = "out of memory"; break;
    case NOT_INITIALIZED: *text = "initialization error"; break;
    case INVALID_CONTEXT: *text = "invalid device context"; break;
    case ILLEGAL_ADDRESS: *text = "an illegal memory access was encountered"; break;
    case CONTEXT_IS_DESTROYED: *text = "context is destroyed"; break;
    case 801: *text = "operation not supported"; break;
    default: *text = "invalid argument";
    }
    return OK;
}

int cuDeviceGet(int *device, int index) { *device = index; return index ? INVALID_DEVICE : OK; }
int cuDeviceGetCount(int *n) { *n = 1; return OK; }
int cuDeviceGetName(char *text, int n, int device) { strncpy(text, "Orin (fake)", n); return OK; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 7990000000u; return OK; }
int cuDeviceGetAttribute(int *value, int which, int device)
{
    *value = which == 75 ? 8 : which == 76 ? 7 : which == 18 ? 1 : 0;
    return OK;
}

int cuDevicePrimaryCtxRetain(void **context, int device)
{
    CALL(cuDevicePrimaryCtxRetain);
    count.retained++;
    *context = &context_of_device;
    return OK;
}

int cuDevicePrimaryCtxRelease_v2(int device)
{
    CALL(cuDevicePrimaryCtxRelease_v2);
    if (!count.retained) return INVALID_CONTEXT;
    if (--count.retained == 0) { /* the context goes, and all that was forgotten in it */
        count.lost += fake_cuda_live_allocations();
        broken = queued = count.streams = count.events = 0;
        for (int i = 0; i < ROOM; i++) if (blocks[i].address) forget(&blocks[i]);
    }
    return OK;
}

int cuCtxPushCurrent_v2(void *context)
{
    CALL(cuCtxPushCurrent_v2);
    if (context != &context_of_device || !count.retained || depth == DEPTH) return INVALID_CONTEXT;
    came_here();
    stack[depth++] = context;
    return OK;
}

int cuCtxPopCurrent_v2(void **context)
{
    CALL(cuCtxPopCurrent_v2);
    if (!depth) return INVALID_CONTEXT;
    *context = stack[--depth];
    return OK;
}

int cuCtxGetCurrent(void **context) { *context = depth ? stack[depth - 1] : NULL; return OK; }

int cuMemAlloc_v2(void **address, size_t n) { USE(cuMemAlloc_v2); return allocate(address, n, 0); }
int cuMemFree_v2(void *address) { USE(cuMemFree_v2); return release(address, 0); }
int cuMemHostAlloc(void **address, size_t n, unsigned flags)
{
    USE(cuMemHostAlloc);
    return allocate(address, n, 1);
}
int cuMemAllocHost_v2(void **address, size_t n)
{
    USE(cuMemAllocHost_v2);
    return allocate(address, n, 1);
}
int cuMemFreeHost(void *address) { USE(cuMemFreeHost); return release(address, 1); }

int cuStreamCreate(Stream **stream, unsigned flags)
{
    USE(cuStreamCreate);
    *stream = calloc(1, sizeof(Stream)); /* never given back, so that a dead handle is known */
    (*stream)->live = 1;
    count.streams++;
    return OK;
}

int cuStreamDestroy_v2(Stream *stream)
{
    USE(cuStreamDestroy_v2);
    if (!stream->live) return INVALID_HANDLE;
    stream->live = 0;
    count.streams--;
    return OK;
}

int cuStreamSynchronize(Stream *stream)
{
    USE(cuStreamSynchronize);
    return stream->live ? drain(stream, ~0ul) : INVALID_HANDLE;
}

int cuEventCreate(Event **event, unsigned flags)
{
    USE(cuEventCreate);
    count.busy_events += flags != (1 | 2); /* CU_EVENT_BLOCKING_SYNC, CU_EVENT_DISABLE_TIMING */
    *event = calloc(1, sizeof(Event));
    (*event)->live = 1;
    count.events++;
    return OK;
}

int cuEventDestroy_v2(Event *event)
{
    USE(cuEventDestroy_v2);
    if (!event->live) return INVALID_HANDLE;
    event->live = 0;
    count.events--;
    return OK;
}

int cuEventRecord(Event *event, Stream *stream)
{
    USE(cuEventRecord);
    if (!event->live) return INVALID_HANDLE;
    int code = put(stream, (Step){.mark = 1, .with = event});
    if (code) return code;
    event->recorded = numbers;
    if (++count.flying > count.most_flying) count.most_flying = count.flying;
    return OK;
}

int cuEventSynchronize(Event *event)
{
    USE(cuEventSynchronize);
    if (!event->live) return INVALID_HANDLE;
    for (int i = 0; i < queued; i++)
        if (queue[i].number == event->recorded && queue[i].mark)
            return drain(queue[i].stream, event->recorded);
    return broken;
}

int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t n, Stream *stream)
{
    USE(cuMemcpyHtoDAsync_v2);
    if (!holding(from, n, 1)) { count.pageable_copies++; return INVALID_VALUE; }
    if (!holding(to, n, 0)) return INVALID_VALUE;
    char *memory = fake_cuda_memory((uintptr_t)to);
    return put(stream, (Step){.to = memory, .from = (char *)from, .bytes = n});
}

int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t n, Stream *stream)
{
    USE(cuMemcpyDtoHAsync_v2);
    if (!holding(to, n, 1)) { count.pageable_copies++; return INVALID_VALUE; }
    if (!holding(from, n, 0)) return INVALID_VALUE;
    char *memory = fake_cuda_memory((uintptr_t)from);
    return put(stream, (Step){.to = (char *)to, .from = memory, .bytes = n});
}

/* A kernel. */
int fake_cuda_launch(Stream *stream, Work work, void *with)
{
    USE(fake_cuda_launch);
    return put(stream, (Step){.work = work, .with = with});
}
