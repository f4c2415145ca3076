/* A disk that fails and a clock that steps: preloaded, it counts the calls that reach the watched
   folders, and makes the n-th of them fail, fall short, or be the process's last.

   FAULT_FOLDERS  watched folders, separated by colons
   FAULT_COUNT    a file of 8 bytes that holds the count, shared by all processes
   FAULT_AT       the call that fails; 0 for none
   FAULT_HOW      an errno, "short" (half is written or read), or "kill" (after half of a write)
   FAULT_LOG      a file that each call is written to: "op\tpath\tother\toffset\tsize\n", content
   CLOCK_STEP_S   seconds by which the wall clock jumps, forwards and back, at every other reading
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = dlsym(RTLD_NEXT, #name)

enum { PASS, FAIL, SHORT, KILL };
static const char *folders, *how;
static long fail_at, clock_step;
static atomic_long *calls;
static int log_fd = -1;

__attribute__((constructor)) void faults_arm(void) {
    REAL(open);
    const char *text;
    folders = getenv("FAULT_FOLDERS");
    how = getenv("FAULT_HOW");
    fail_at = (text = getenv("FAULT_AT")) ? atol(text) : 0;
    clock_step = (text = getenv("CLOCK_STEP_S")) ? atol(text) : 0;
    calls = NULL;
    if ((text = getenv("FAULT_COUNT"))) {
        int fd = real(text, O_RDWR);
        void *page = mmap(NULL, sizeof *calls, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        calls = page == MAP_FAILED ? NULL : page;
    }
    log_fd = (text = getenv("FAULT_LOG")) ? real(text, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;
}

static int watched(const char *path) {
    for (const char *at = folders; at && *at; at += strcspn(at, ":"), at += *at == ':') {
        size_t size = strcspn(at, ":");
        if (!strncmp(path, at, size) && (path[size] == '/' || !path[size])) return 1;
    }
    return 0;
}

static void resolve(int folder, const char *path, char *out) {
    char base[PATH_MAX] = "", link[64];
    if (path[0] != '/') {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t size = readlink(folder == AT_FDCWD ? "/proc/self/cwd" : link, base, PATH_MAX - 1);
        base[size < 0 ? 0 : size] = 0;
    }
    snprintf(out, PATH_MAX, *base && *path ? "%s/%s" : "%s%s", base, path);
}

static int counted(const char *op, const char *path, const char *other, const void *data,
                   size_t size, off_t offset) {
    REAL(writev);
    if (!calls || !(watched(path) || watched(other))) return PASS;
    long number = atomic_fetch_add(calls, 1) + 1;
    if (log_fd >= 0) {
        char line[2 * PATH_MAX];
        int length = snprintf(line, sizeof line, "%s\t%s\t%s\t%ld\t%zu\n", op, path, other,
                              (long)offset, data ? size : 0);
        struct iovec parts[] = {{line, length}, {(void *)data, data ? size : 0}};
        real(log_fd, parts, 2);
    }
    if (number != fail_at) return PASS;
    if (!strcmp(how, "kill")) {
        if (!data) kill(getpid(), SIGKILL);
        return KILL;
    }
    if (!strcmp(how, "short")) return SHORT;
    errno = atoi(how);
    return FAIL;
}

static int on_path(const char *op, int folder, const char *path, int to, const char *target) {
    char from_path[PATH_MAX], to_path[PATH_MAX] = "";
    int saved = errno;
    resolve(folder, path, from_path);
    if (target) resolve(to, target, to_path);
    int what = counted(op, from_path, to_path, NULL, 0, 0);
    if (what != FAIL) errno = saved;
    return what == FAIL;
}

static int on_fd(const char *op, int fd, const void *data, size_t size, off_t offset) {
    char path[PATH_MAX];
    int saved = errno;
    resolve(fd, "", path);
    int what = counted(op, path, "", data, size, offset);
    if (what != FAIL) errno = saved;
    return what;
}

#define OPENING(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        const char *op = flags & O_TRUNC ? "truncate" : flags & O_CREAT ? "create" : "open"; \
        return on_path(op, AT_FDCWD, path, 0, NULL) ? -1 : real(path, flags, mode); \
    }
OPENING(open)
OPENING(open64)

#define OPENING_AT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(name); \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        const char *op = flags & O_TRUNC ? "truncate" : flags & O_CREAT ? "create" : "open"; \
        return on_path(op, folder, path, 0, NULL) ? -1 : real(folder, path, flags, mode); \
    }
OPENING_AT(openat)
OPENING_AT(openat64)

#define MOVING(op, name, data, offset, call_whole, call_half, ...) \
    ssize_t name(__VA_ARGS__) { \
        REAL(name); \
        int what = on_fd(op, fd, data, size, offset); \
        size_t half = size > 1 ? size / 2 : size; \
        if (what == FAIL) return -1; \
        if (what == PASS) return call_whole; \
        ssize_t done = call_half; \
        if (what == KILL) kill(getpid(), SIGKILL); \
        return done; \
    }
MOVING("write", write, from, lseek(fd, 0, SEEK_CUR), real(fd, from, size), real(fd, from, half),
       int fd, const void *from, size_t size)
MOVING("write", pwrite, from, at, real(fd, from, size, at), real(fd, from, half, at),
       int fd, const void *from, size_t size, off_t at)
MOVING("write", pwrite64, from, at, real(fd, from, size, at), real(fd, from, half, at),
       int fd, const void *from, size_t size, off64_t at)
MOVING("read", read, NULL, 0, real(fd, to, size), real(fd, to, half), int fd, void *to, size_t size)
MOVING("read", pread, NULL, 0, real(fd, to, size, at), real(fd, to, half, at),
       int fd, void *to, size_t size, off_t at)
MOVING("read", pread64, NULL, 0, real(fd, to, size, at), real(fd, to, half, at),
       int fd, void *to, size_t size, off64_t at)

ssize_t writev(int fd, const struct iovec *parts, int count) {
    ssize_t sum = 0;  /* part by part, as the kernel may do it */
    for (int i = 0; i < count; i++) {
        ssize_t done = write(fd, parts[i].iov_base, parts[i].iov_len);
        if (done < 0) return sum ? sum : -1;
        sum += done;
        if ((size_t)done < parts[i].iov_len) break;
    }
    return sum;
}

#define ON_FD(op, name, call, offset, ...) \
    int name(__VA_ARGS__) { \
        REAL(name); \
        return on_fd(op, fd, NULL, 0, offset) == FAIL ? -1 : call; \
    }
ON_FD("fsync", fsync, real(fd), 0, int fd)
ON_FD("fsync", fdatasync, real(fd), 0, int fd)
ON_FD("chmod", fchmod, real(fd, mode), 0, int fd, mode_t mode)
ON_FD("lock", flock, real(fd, what), 0, int fd, int what)
ON_FD("resize", ftruncate, real(fd, size), size, int fd, off_t size)
ON_FD("resize", ftruncate64, real(fd, size), size, int fd, off64_t size)

int close(int fd) {
    REAL(close);
    int failed = on_fd("close", fd, NULL, 0, 0) == FAIL, why = errno;
    int done = real(fd);  /* closed even so, as Linux does it */
    if (failed) errno = why;
    return failed ? -1 : done;
}

#define ON_PATH(op, name, type, failed, folder, path, to, target, call, ...) \
    type name(__VA_ARGS__) { \
        REAL(name); \
        return on_path(op, folder, path, to, target) ? failed : call; \
    }
ON_PATH("rename", rename, int, -1, AT_FDCWD, a, AT_FDCWD, b, real(a, b), const char *a,
        const char *b)
ON_PATH("rename", renameat, int, -1, x, a, y, b, real(x, a, y, b), int x, const char *a, int y,
        const char *b)
ON_PATH("unlink", unlink, int, -1, AT_FDCWD, a, 0, NULL, real(a), const char *a)
ON_PATH("unlink", unlinkat, int, -1, x, a, 0, NULL, real(x, a, flags), int x, const char *a,
        int flags)
ON_PATH("mkdir", mkdir, int, -1, AT_FDCWD, a, 0, NULL, real(a, mode), const char *a, mode_t mode)
ON_PATH("mkdir", mkdirat, int, -1, x, a, 0, NULL, real(x, a, mode), int x, const char *a,
        mode_t mode)
ON_PATH("rmdir", rmdir, int, -1, AT_FDCWD, a, 0, NULL, real(a), const char *a)
ON_PATH("chmod", chmod, int, -1, AT_FDCWD, a, 0, NULL, real(a, mode), const char *a, mode_t mode)
ON_PATH("list", opendir, DIR *, NULL, AT_FDCWD, a, 0, NULL, real(a), const char *a)
ON_PATH("stat", stat, int, -1, AT_FDCWD, a, 0, NULL, real(a, to), const char *restrict a,
        struct stat *restrict to)
ON_PATH("stat", stat64, int, -1, AT_FDCWD, a, 0, NULL, real(a, to), const char *restrict a,
        struct stat64 *restrict to)
ON_PATH("stat", lstat, int, -1, AT_FDCWD, a, 0, NULL, real(a, to), const char *restrict a,
        struct stat *restrict to)
ON_PATH("stat", lstat64, int, -1, AT_FDCWD, a, 0, NULL, real(a, to), const char *restrict a,
        struct stat64 *restrict to)

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime);
    static atomic_long readings;
    int done = real(clock, now);
    if (clock_step && clock == CLOCK_REALTIME && atomic_fetch_add(&readings, 1) % 2)
        now->tv_sec += clock_step;
    return done;
}
