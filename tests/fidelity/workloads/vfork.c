/* Children by vfork, which share the parent's memory until they exec: one runs a program, one fails to. */
#define _GNU_SOURCE
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

static int run(const char *path)
{
    char *const arguments[] = {"sh", "-c", "exit 5", NULL};
    char *const environment[] = {"PATH=/usr/bin:/bin", NULL};
    int status = 0;
    pid_t child = vfork();
    CHECK(child >= 0);
    if (child == 0) {
        getpgid(0);
        execve(path, arguments, environment);
        _exit(9);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

int main(void)
{
    CHECK(run("/bin/sh") == 5);
    CHECK(run("/nonexistent") == 9);
    puts("vfork done");
    return 0;
}
