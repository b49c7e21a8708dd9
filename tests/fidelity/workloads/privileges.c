/* What a server does that starts as root: locks itself in and gives up its privileges. As another user each of
 * these calls fails, and is made all the same. */
#define _GNU_SOURCE
#include <grp.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "check.h"

int main(void)
{
    int root = getuid() == 0;
    CHECK(mkdir("jail", 0755) == 0);
    CHECK((chown("jail", 1000, 1000) == 0) == root || getuid() == 1000);
    CHECK((chroot("jail") == 0) == root);
    if (root)
        CHECK(chdir("/") == 0);
    gid_t group = 1000;
    CHECK((setgroups(1, &group) == 0) == root);
    CHECK((setresgid(1000, 1000, 1000) == 0) == (root || getgid() == 1000));
    CHECK((setresuid(1000, 1000, 1000) == 0) == (root || getuid() == 1000));
    CHECK(getuid() != 0 && setuid(0) == -1);
    setfsuid(1000);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    puts("privileges done");
    return 0;
}
