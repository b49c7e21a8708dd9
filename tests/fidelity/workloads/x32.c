/* Calls with an x32 number: of those that x32 shares with the native table, and of its own from 512 on. A
 * kernel without x32 refuses them; they were made all the same. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>
#include "check.h"

static const char *outcome(long number)
{
    errno = 0;
    long result = syscall(0x40000000 | number, 0, 0, 0, 0, 0, 0);
    return errno == ENOSYS ? "no x32" : errno == EPERM ? "refused" : result < 0 ? "failed" : "made";
}

int main(void)
{
    printf("getppid %s\n", outcome(110));
    printf("getpgrp %s\n", outcome(111));
    printf("rt_sigpending %s\n", outcome(522));
    printf("mq_notify %s\n", outcome(527));
    puts("x32 done");
    return 0;
}
