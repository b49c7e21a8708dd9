/* Executes itself twenty times; only the last incarnation makes its call, from a thread that then executes
 * once more, so that the thread takes over the process. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#include "check.h"

static void again(const char *how)
{
    char *const arguments[] = {"chain", (char *)how, NULL};
    char *const environment[] = {NULL};
    execve("/proc/self/exe", arguments, environment);
    CHECK(!"execve returned");
}

static void *from_thread(void *unused)
{
    (void)unused;
    again("end");
    return NULL;
}

int main(int count, char **arguments)
{
    const char *stage = count > 1 ? arguments[1] : "20";
    char next[16];
    if (strcmp(stage, "end") == 0) {
        CHECK(getsid(0) >= 0);
        puts("chain done");
        return 0;
    }
    if (strcmp(stage, "0") == 0) {
        struct sysinfo info;
        pthread_t thread;
        CHECK(sysinfo(&info) == 0);
        CHECK(pthread_create(&thread, NULL, from_thread, NULL) == 0);
        pthread_join(thread, NULL);
        CHECK(!"the thread came back");
    }
    snprintf(next, sizeof next, "%d", atoi(stage) - 1);
    again(next);
}
