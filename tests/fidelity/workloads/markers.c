/* Makes, as an application, the calls by which an OCI runtime is followed: they must not take it for one. */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

int main(void)
{
    int signal, status;
    CHECK(unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(getpid() == 1);
        CHECK(sethostname("inside", 6) == 0);
        CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
        CHECK(mkdir("root", 0755) == 0);
        CHECK(mount("tmpfs", "root", "tmpfs", 0, NULL) == 0);
        CHECK(chdir("root") == 0);
        CHECK(syscall(SYS_pivot_root, ".", ".") == 0);
        CHECK(umount2(".", MNT_DETACH) == 0);
        CHECK(prctl(PR_GET_PDEATHSIG, &signal) == 0);
        struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
        struct sock_fprog program = {.len = 1, .filter = allow};
        CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
        CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
        getpgid(0);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    getsid(0);
    puts("markers done");
    return 0;
}
