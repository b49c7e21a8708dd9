/* System calls of a program without libc, of this program's own ABI. */
#ifndef RAW_H
#define RAW_H

#ifdef __x86_64__
static long raw(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}
#define START(main)                                                                              \
    __asm__(".globl _start\n_start:\n mov %rsp, %rdi\n and $-16, %rsp\n call " #main "\n ud2\n")
#else
static long raw(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}
#define START(main)                                                                              \
    __asm__(".globl _start\n_start:\n mov %esp, %eax\n and $-16, %esp\n push %eax\n push %eax\n push %eax\n" \
            " push %eax\n call " #main "\n ud2\n")
#endif
#endif
