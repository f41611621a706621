/* Faults of a disk, for LD_PRELOAD: at the n-th call of one operation on a path below a folder, the call fails.
 *
 * A process calls arm_fault, works, calls disarm_fault, and reads the numbers of its calls. The paths of files are found by
 * their descriptors. library.py compiles this file.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum operation { NONE, WRITE, FSYNC, RENAME, OPEN, CREATE, OPERATIONS };
enum kind { KILL, TORN, SHORT, FULL, FAIL };

static char folder[PATH_MAX];
static int armed_operation = NONE, armed_kind = KILL;
static long fault_number;
static int is_armed;
static atomic_long calls[OPERATIONS];

/* Begin to count the calls of each operation below a folder. The call of `operation` with this number fails. */
void arm_fault(const char *path, int operation, int kind, long number) {
    snprintf(folder, sizeof folder, "%s/", path);
    armed_kind = kind;
    fault_number = number;
    for (int each = 0; each < OPERATIONS; each++) atomic_store(&calls[each], 0);
    armed_operation = operation;
    is_armed = 1;
}

/* Stop to count. */
void disarm_fault(void) { is_armed = 0; }

/* Return the number of counted calls of an operation. */
long count_calls(int operation) { return atomic_load(&calls[operation]); }

static int is_below(const char *path) {
    char absolute[PATH_MAX];
    if (path[0] != '/') {
        if (getcwd(absolute, sizeof absolute) == NULL) return 0;
        size_t length = strlen(absolute);
        if (length + 2 > sizeof absolute) return 0;
        absolute[length] = '/';
        absolute[length + 1] = 0;
        strncat(absolute, path, sizeof absolute - length - 2);
        path = absolute;
    }
    return strncmp(path, folder, strlen(folder)) == 0;
}

static int is_descriptor_below(int descriptor) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 2);
    if (length < 0) return 0;
    path[length] = '/'; /* the folder itself counts too, because folders are synced */
    path[length + 1] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

/* Count a call. Return true if it must fail. A full disk stays full; the other faults happen once. */
static int counts(int operation) {
    long number = atomic_fetch_add(&calls[operation], 1) + 1;
    if (operation != armed_operation) return 0;
    return armed_kind == FULL ? number >= fault_number : number == fault_number;
}

static int fail(void) {
    if (armed_kind == KILL || armed_kind == TORN) kill(getpid(), SIGKILL);
    errno = armed_kind == FULL ? ENOSPC : EIO;
    return -1;
}

#define WRITE_FAILS(descriptor) (is_armed && is_descriptor_below(descriptor) && counts(WRITE))

/* Return the number of bytes that this write writes: half of them if the fault leaves a part of a write. */
static size_t part(size_t size) { return armed_kind == TORN || armed_kind == SHORT ? (size + 1) / 2 : 0; }

static ssize_t after_part(ssize_t written) { return armed_kind == SHORT ? written : fail(); }

ssize_t write(int descriptor, const void *bytes, size_t size) {
    static ssize_t (*next)(int, const void *, size_t);
    if (!next) next = dlsym(RTLD_NEXT, "write");
    if (!WRITE_FAILS(descriptor)) return next(descriptor, bytes, size);
    return after_part(part(size) ? next(descriptor, bytes, part(size)) : 0);
}

#define DEFINE_PWRITE(name, offset_type)                                                                   \
    ssize_t name(int descriptor, const void *bytes, size_t size, offset_type offset) {                     \
        static ssize_t (*next)(int, const void *, size_t, offset_type);                                    \
        if (!next) next = dlsym(RTLD_NEXT, #name);                                                         \
        if (!WRITE_FAILS(descriptor)) return next(descriptor, bytes, size, offset);                        \
        return after_part(part(size) ? next(descriptor, bytes, part(size), offset) : 0);                   \
    }
DEFINE_PWRITE(pwrite, off_t)
DEFINE_PWRITE(pwrite64, off64_t)

#define DEFINE_SYNC(name)                                                                                  \
    int name(int descriptor) {                                                                             \
        static int (*next)(int);                                                                           \
        if (!next) next = dlsym(RTLD_NEXT, #name);                                                         \
        if (is_armed && is_descriptor_below(descriptor) && counts(FSYNC)) return fail();                   \
        return next(descriptor);                                                                           \
    }
DEFINE_SYNC(fsync)
DEFINE_SYNC(fdatasync)

int rename(const char *from, const char *to) {
    static int (*next)(const char *, const char *);
    if (!next) next = dlsym(RTLD_NEXT, "rename");
    if (is_armed && is_below(to) && counts(RENAME)) return fail();
    return next(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    static int (*next)(int, const char *, int, const char *);
    if (!next) next = dlsym(RTLD_NEXT, "renameat");
    if (is_armed && (to_folder == AT_FDCWD ? is_below(to) : is_descriptor_below(to_folder)) && counts(RENAME))
        return fail();
    return next(from_folder, from, to_folder, to);
}

/* Files that are created are counted apart, because a full disk does not prevent that existing ones are opened. */
static int open_fails(int descriptor, const char *path, int flags) {
    if (!is_armed || !(descriptor == AT_FDCWD || path[0] == '/' ? is_below(path) : is_descriptor_below(descriptor)))
        return 0;
    int create_fails = flags & O_CREAT ? counts(CREATE) : 0;
    return counts(OPEN) || create_fails;
}

#define READ_MODE(mode, flags)                                                                             \
    mode_t mode = 0;                                                                                       \
    if (flags & (O_CREAT | __O_TMPFILE)) {                                                                 \
        va_list arguments;                                                                                 \
        va_start(arguments, flags);                                                                        \
        mode = va_arg(arguments, mode_t);                                                                  \
        va_end(arguments);                                                                                 \
    }

#define DEFINE_OPEN(name)                                                                                  \
    int name(const char *path, int flags, ...) {                                                           \
        static int (*next)(const char *, int, ...);                                                        \
        if (!next) next = dlsym(RTLD_NEXT, #name);                                                         \
        READ_MODE(mode, flags)                                                                             \
        if (open_fails(AT_FDCWD, path, flags)) return fail();                                              \
        return next(path, flags, mode);                                                                    \
    }
DEFINE_OPEN(open)
DEFINE_OPEN(open64)

#define DEFINE_OPENAT(name)                                                                                \
    int name(int descriptor, const char *path, int flags, ...) {                                           \
        static int (*next)(int, const char *, int, ...);                                                   \
        if (!next) next = dlsym(RTLD_NEXT, #name);                                                         \
        READ_MODE(mode, flags)                                                                             \
        if (open_fails(descriptor, path, flags)) return fail();                                            \
        return next(descriptor, path, flags, mode);                                                        \
    }
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)
