/* Ends with `exit`, as a program without libc may, and makes one call before: given an argument, that one and
 * with the argument's number. Its exit status is the call's errno. So it can start under any profile, and
 * tell whether a call is refused (1, EPERM). */
#include <asm/unistd_64.h>
#include "raw.h"

START(program);

__attribute__((used)) void program(long *stack)
{
    long number = __NR_getppid;
    if (stack[0] > 1) {
        number = 0;
        for (const char *digit = (const char *)stack[2]; *digit; digit++)
            number = number * 10 + (*digit - '0');
    }
    long result = raw(number, 0, 0, 0);
    raw(__NR_exit, result < 0 ? -result : 0, 0, 0);
}
