/* 500 children, many at a time, each with a grandchild. */
#define _GNU_SOURCE
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

int main(void)
{
    enum { CHILDREN = 500, AT_ONCE = 50 };
    int status, running = 0, bad = 0;
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            pid_t grandchild = fork();
            CHECK(grandchild >= 0);
            if (grandchild == 0) {
                if (i == CHILDREN - 1)
                    getpriority(PRIO_PROCESS, 0);
                _exit(0);
            }
            CHECK(waitpid(grandchild, &status, 0) == grandchild);
            _exit(status == 0 ? 0 : 1);
        }
        if (++running == AT_ONCE) {
            CHECK(wait(&status) > 0);
            bad += status != 0;
            running--;
        }
    }
    while (running-- > 0) {
        CHECK(wait(&status) > 0);
        bad += status != 0;
    }
    CHECK(bad == 0);
    puts("children done");
    return 0;
}
