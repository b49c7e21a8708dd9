/* Signals in every way: handlers in a storm, on another stack, queued, waited for, by descriptor, by timers;
 * a sleep that a stop interrupts, so that the kernel restarts it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

static volatile sig_atomic_t count;

static void handler(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info, (void)context;
    count++;
}

static void on(int signal, int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    CHECK(sigaction(signal, &action, NULL) == 0);
}

static char state(pid_t process)
{
    char path[64], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", process);
    int file = open(path, O_RDONLY);
    CHECK(file >= 0 && read(file, text, sizeof text - 1) > 0);
    close(file);
    return strrchr(text, ')')[2];
}

static void restarted_sleep(void)
{
    int ready[2], status;
    char byte;
    CHECK(pipe(ready) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct timespec time = {.tv_nsec = 300 * 1000 * 1000};
        CHECK(write(ready[1], "x", 1) == 1);
        _exit(syscall(SYS_nanosleep, &time, NULL) == 0 ? 0 : 1);
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    while (state(child) != 'S')
        sched_yield();
    CHECK(kill(child, SIGSTOP) == 0);
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    CHECK(kill(child, SIGCONT) == 0);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    static char other[64 * 1024];
    stack_t stack = {.ss_sp = other, .ss_size = sizeof other};
    sigset_t usr2, none, old;
    struct signalfd_siginfo info;

    CHECK(sigaltstack(&stack, NULL) == 0);
    on(SIGUSR1, SA_ONSTACK);
    for (int i = 0; i < 1000; i++)
        CHECK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1) == 0);
    CHECK(count == 1000);

    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    sigemptyset(&none);
    on(SIGUSR2, 0);
    CHECK(sigprocmask(SIG_BLOCK, &usr2, &old) == 0);
    CHECK(sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 1}) == 0);
    CHECK(sigpending(&none) == 0 && sigismember(&none, SIGUSR2));
    CHECK(sigwaitinfo(&usr2, NULL) == SIGUSR2);
    int descriptor = signalfd(-1, &usr2, SFD_CLOEXEC);
    CHECK(descriptor >= 0 && kill(getpid(), SIGUSR2) == 0);
    CHECK(read(descriptor, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR2);
    CHECK(kill(getpid(), SIGUSR2) == 0);
    CHECK(sigsuspend(&old) == -1 && count == 1001);

    on(SIGALRM, 0);
    struct itimerval once = {.it_value.tv_usec = 1000};
    CHECK(setitimer(ITIMER_REAL, &once, NULL) == 0);
    while (count < 1002)
        getppid();
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    struct itimerspec later = {.it_value.tv_nsec = 100 * 1000 * 1000};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    CHECK(timer_settime(timer, 0, &later, NULL) == 0);
    struct timespec minute = {.tv_sec = 60}, rest;
    while (count < 1003)
        CHECK(nanosleep(&minute, &rest) == -1 && errno == EINTR);
    CHECK(timer_delete(timer) == 0);

    restarted_sleep();
    puts("signals done");
    return 0;
}
