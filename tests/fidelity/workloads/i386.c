/* A 32-bit program without libc: calls whose names only the 32-bit table has. */
#include <asm/unistd_32.h>
#include "raw.h"

START(program);

static unsigned char buffer[256];

__attribute__((used)) void program(long *stack)
{
    static const char text[] = "i386 done\n";
    long socket[3] = {1 /* AF_UNIX */, 1 /* SOCK_STREAM */, 0};
    (void)stack;
    raw(__NR_getuid32, 0, 0, 0);
    raw(__NR_fstat64, 0, (long)buffer, 0);
    raw(__NR_ugetrlimit, 7, (long)buffer, 0);
    raw(__NR__llseek, 0, 0, 0);
    raw(__NR_fcntl64, 1, 1, 0);
    raw(__NR_uname, (long)buffer, 0, 0);
    raw(__NR_clock_gettime64, 1, (long)buffer, 0);
    long descriptor = raw(__NR_socketcall, 1 /* SYS_SOCKET */, (long)socket, 0);
    raw(__NR_close, descriptor, 0, 0);
    long child = raw(__NR_fork, 0, 0, 0);
    if (child == 0) {
        raw(__NR_setpgid, 0, 0, 0);
        raw(__NR_exit, 0, 0, 0);
    }
    raw(__NR_waitpid, child, 0, 0);
    raw(__NR_write, 1, (long)text, sizeof text - 1);
    raw(__NR_exit, 0, 0, 0);
}
