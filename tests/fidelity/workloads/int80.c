/* A 64-bit program that makes 32-bit calls: the code segment says 64 bits, the call is i386's. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include "check.h"

static long int80(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
    return (int)result;
}

int main(void)
{
    char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    CHECK(low != MAP_FAILED);
    CHECK(int80(199, 0, 0, 0) >= 0);                 /* getuid32 */
    CHECK(int80(191, 7, (long)low, 0) == 0);         /* ugetrlimit */
    CHECK(int80(20, 0, 0, 0) > 0);                   /* getpid; for a 64-bit program 20 is writev */
    strcpy(low, "int80 done\n");
    CHECK(int80(4, 1, (long)low, strlen(low)) > 0);  /* write */
    return 0;
}
