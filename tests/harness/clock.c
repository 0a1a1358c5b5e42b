/* The time of day, moved by the nanoseconds that stand in a file. Loaded before the C library, it answers for it; a test that writes
   the file makes the clock of the process jump. Clocks that never go back are left alone, as when somebody sets a machine's time. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000

static const volatile int64_t *shift;

__attribute__((constructor)) static void map_shift(void) {
    const char *path = getenv("WALL_CLOCK_SHIFT");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) {
        return;
    }
    void *mapped = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) {
        shift = mapped;
    }
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = (int)syscall(SYS_clock_gettime, clock, at);
    if (failed || !shift || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) {
        return failed;
    }
    int64_t by = *shift;
    int64_t nanos = at->tv_nsec + by % SECOND;
    at->tv_sec += by / SECOND + (nanos >= SECOND) - (nanos < 0);
    at->tv_nsec = nanos + SECOND * ((nanos < 0) - (nanos >= SECOND));
    return 0;
}
