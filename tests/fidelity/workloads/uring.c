/* Reads, writes and makes a directory through io_uring: the ring's calls are the program's, what the kernel
 * does on its behalf is not. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include "check.h"

static struct io_uring_params params;
static char *queue;
static struct io_uring_sqe *entries;
static int ring;

static int submit(struct io_uring_sqe request)
{
    unsigned *tail = (unsigned *)(queue + params.sq_off.tail);
    unsigned mask = *(unsigned *)(queue + params.sq_off.ring_mask);
    unsigned index = *tail & mask;
    entries[index] = request;
    ((unsigned *)(queue + params.sq_off.array))[index] = index;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    CHECK(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1);
    unsigned *head = (unsigned *)(queue + params.cq_off.head);
    unsigned completions = *(unsigned *)(queue + params.cq_off.ring_mask);
    struct io_uring_cqe *done = (struct io_uring_cqe *)(queue + params.cq_off.cqes) + (*head & completions);
    int result = done->res;
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    return result;
}

int main(void)
{
    ring = syscall(SYS_io_uring_setup, 8, &params);
    CHECK(ring >= 0);
    CHECK(params.features & IORING_FEAT_SINGLE_MMAP);
    size_t size = params.sq_off.array + params.sq_entries * sizeof(unsigned);
    size_t other = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    queue = mmap(NULL, size > other ? size : other, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring,
                 IORING_OFF_SQ_RING);
    entries = mmap(NULL, params.sq_entries * sizeof *entries, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                   ring, IORING_OFF_SQES);
    CHECK(queue != MAP_FAILED && entries != MAP_FAILED);

    char text[] = "through the ring", back[sizeof text];
    int file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(file >= 0);
    CHECK(syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES, &file, 1) == 0);
    CHECK(submit((struct io_uring_sqe){.opcode = IORING_OP_NOP}) == 0);
    CHECK(submit((struct io_uring_sqe){.opcode = IORING_OP_WRITE, .fd = file, .addr = (unsigned long)text, .len = sizeof text}) == sizeof text);
    CHECK(submit((struct io_uring_sqe){.opcode = IORING_OP_FSYNC, .fd = file}) == 0);
    CHECK(submit((struct io_uring_sqe){.opcode = IORING_OP_READ, .fd = 0, .flags = IOSQE_FIXED_FILE | IOSQE_ASYNC, .addr = (unsigned long)back, .len = sizeof back}) == sizeof back);
    CHECK(strcmp(text, back) == 0);
    CHECK(submit((struct io_uring_sqe){.opcode = IORING_OP_MKDIRAT, .fd = AT_FDCWD, .addr = (unsigned long)"made", .len = 0700}) == 0);
    CHECK(access("made", F_OK) == 0);
    puts("uring done");
    return 0;
}
