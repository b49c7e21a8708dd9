/* A program with cgroups of its own, as systemd or a nested runtime has: one child moves into one, another is
 * born in it. What they do is still the program's. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

static void own_cgroup(char *path, size_t size)
{
    char line[4096], mount[1024] = "", type[64], group[2048] = "";
    FILE *mounts = fopen("/proc/self/mounts", "r");
    CHECK(mounts);
    while (fgets(line, sizeof line, mounts)) {
        char point[1024];
        if (sscanf(line, "%*s %1023s %63s", point, type) == 2 && strcmp(type, "cgroup2") == 0)
            strcpy(mount, point);
    }
    fclose(mounts);
    FILE *groups = fopen("/proc/self/cgroup", "r");
    CHECK(groups);
    while (fgets(line, sizeof line, groups))
        sscanf(line, "0::%2047s", group);
    fclose(groups);
    CHECK(*mount && *group);
    snprintf(path, size, "%s%s", mount, group);
}

int main(void)
{
    char home[4096], sub[8192], procs[8300], text[32];
    int status;
    own_cgroup(home, sizeof home);
    snprintf(sub, sizeof sub, "%s/sub-%d", home, getpid());
    snprintf(procs, sizeof procs, "%s/cgroup.procs", sub);
    CHECK(mkdir(sub, 0755) == 0);

    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int file = open(procs, O_WRONLY);
        int length = snprintf(text, sizeof text, "%d", getpid());
        CHECK(file >= 0 && write(file, text, length) == length);
        getpriority(PRIO_PROCESS, 0);
        execl("/bin/sh", "sh", "-c", "umask > /dev/null; nice true", NULL);
        _exit(1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);

    int directory = open(sub, O_RDONLY | O_DIRECTORY);
    CHECK(directory >= 0);
    struct clone_args arguments = {.flags = CLONE_INTO_CGROUP, .exit_signal = 17, .cgroup = directory};
    child = syscall(SYS_clone3, &arguments, sizeof arguments);
    CHECK(child >= 0);
    if (child == 0) {
        syscall(SYS_sched_get_priority_max, SCHED_FIFO);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(rmdir(sub) == 0);
    puts("subgroups done");
    return 0;
}
