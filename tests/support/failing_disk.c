/* Loaded before libc (LD_PRELOAD), makes the calls of a process on some files fail or hang, as a bad disk would.
 *
 * FAILING_DISK_FILES: a piece of the paths of the files concerned.
 * FAILING_DISK_FLAGS: a file of seven bytes; a byte that is not 0 switches a fault on, at any time:
 *   0 reads fail (EIO)   1 writes fail (EIO)   2 the disk is full (ENOSPC)   3 syncs fail (EIO)   4 syncs hang
 *   5 the disk is mounted read-only (EROFS)   6 reads hang
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ_FAILS, WRITE_FAILS, FULL, SYNC_FAILS, SYNC_HANGS, READ_ONLY, READ_HANGS, COUNT };

static volatile unsigned char *flags;
static const char *files;

/* A process that was forked with other variables calls it again. */
__attribute__((constructor)) void begin(void) {
    const char *path = getenv("FAILING_DISK_FLAGS");
    files = getenv("FAILING_DISK_FILES");
    int fd = path && files ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, COUNT, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) flags = mapped;
}

static int any(void) {
    if (!flags) return 0;
    for (int i = 0; i < COUNT; i++) if (flags[i]) return 1;
    return 0;
}

static int concerns(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, files) != NULL;
}

static int fails(int fd, int fault, int error) {
    if (!any() || !flags[fault] || !concerns(fd)) return 0;
    errno = error;
    return 1;
}

#define NEXT(name) static __typeof__(name) *next; if (!next) next = dlsym(RTLD_NEXT, #name)
#define READER(name, parameters, arguments) \
    ssize_t name parameters { \
        NEXT(name); \
        while (any() && flags[READ_HANGS] && concerns(fd)) usleep(10000); \
        return fails(fd, READ_FAILS, EIO) ? -1 : next arguments; \
    }
#define WRITER(name, parameters, arguments) \
    ssize_t name parameters { \
        NEXT(name); \
        return fails(fd, WRITE_FAILS, EIO) || fails(fd, FULL, ENOSPC) || fails(fd, READ_ONLY, EROFS) ? -1 : next arguments; \
    }
#define SYNC(name) \
    int name(int fd) { \
        NEXT(name); \
        while (any() && flags[SYNC_HANGS] && concerns(fd)) usleep(10000); \
        return fails(fd, SYNC_FAILS, EIO) ? -1 : next(fd); \
    }

READER(read, (int fd, void *buffer, size_t size), (fd, buffer, size))
READER(pread, (int fd, void *buffer, size_t size, off_t at), (fd, buffer, size, at))
READER(pread64, (int fd, void *buffer, size_t size, off64_t at), (fd, buffer, size, at))
WRITER(write, (int fd, const void *buffer, size_t size), (fd, buffer, size))
WRITER(pwrite, (int fd, const void *buffer, size_t size, off_t at), (fd, buffer, size, at))
WRITER(pwrite64, (int fd, const void *buffer, size_t size, off64_t at), (fd, buffer, size, at))
SYNC(fsync)
SYNC(fdatasync)

/* A full disk has no room for a new file either; on a read-only one no file can be opened for writing. */
static int refused(const char *name, int how) {
    char path[8192] = "";
    if (!any()) return 0;
    if (name[0] != '/' && getcwd(path, 4000)) strcat(path, "/");
    strncat(path, name, 4000);
    /* The directory itself, too. */
    strcat(path, "/");
    if (!strstr(path, files)) return 0;
    if (flags[READ_ONLY] && (how & (O_WRONLY | O_RDWR))) {
        errno = EROFS;
        return 1;
    }
    if (flags[FULL] && (how & O_CREAT) && faccessat(AT_FDCWD, name, F_OK, 0) != 0) {
        errno = ENOSPC;
        return 1;
    }
    return 0;
}
#define OPENER(name) \
    int name(const char *path, int how, ...) { \
        NEXT(name); \
        va_list rest; \
        va_start(rest, how); \
        int mode = va_arg(rest, int); \
        va_end(rest); \
        return refused(path, how) ? -1 : next(path, how, mode); \
    }
int access(const char *path, int how) {
    NEXT(access);
    return how & W_OK && refused(path, O_WRONLY) ? -1 : next(path, how);
}
OPENER(open)
OPENER(open64)

/* What a read-only file system refuses besides; unlink also where there is no such file. */
static int is_read_only(const char *path) { return any() && flags[READ_ONLY] && refused(path, O_WRONLY); }
int unlink(const char *path) {
    NEXT(unlink);
    return is_read_only(path) ? -1 : next(path);
}
int rename(const char *from, const char *to) {
    NEXT(rename);
    return is_read_only(to) ? -1 : next(from, to);
}
int mkdir(const char *path, mode_t mode) {
    NEXT(mkdir);
    return faccessat(AT_FDCWD, path, F_OK, 0) != 0 && is_read_only(path) ? -1 : next(path, mode);
}
int bind(int fd, const struct sockaddr *address, socklen_t length) {
    NEXT(bind);
    const struct sockaddr_un *local = (const struct sockaddr_un *)address;
    return local->sun_family == AF_UNIX && is_read_only(local->sun_path) ? -1 : next(fd, address, length);
}
