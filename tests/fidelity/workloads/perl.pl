# Forks, pipes, a socket pair, signals, file locks, directories, a one-second alarm that is cancelled.
use strict;
use warnings;
use Fcntl qw(:flock :DEFAULT);
use IO::Select;
use POSIX qw(:sys_wait_h);
use Socket;

$| = 1;
pipe(my $reader, my $writer) or die "pipe: $!";
my $child = fork // die "fork: $!";
if (!$child) {
    close $reader;
    print {$writer} "from the child\n";
    close $writer;
    POSIX::_exit(7);
}
close $writer;
print scalar <$reader>;
waitpid($child, 0);
print "child ended with ", WEXITSTATUS($?), "\n";

socketpair(my $left, my $right, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
syswrite $left, "x";
print "readable ", scalar(IO::Select->new($right)->can_read(5)), "\n";

my $got = 0;
local $SIG{USR1} = sub { $got++ };
kill USR1 => $$ for 1 .. 3;
print "signals ", ($got > 0 ? "came" : "did not come"), "\n";
alarm 60;
alarm 0;

sysopen(my $file, "locked", O_RDWR | O_CREAT) or die "open: $!";
flock($file, LOCK_EX) or die "flock: $!";
truncate $file, 100;
print "size ", -s "locked", "\n";
mkdir "directory" or die "mkdir: $!";
rename "locked", "directory/renamed" or die "rename: $!";
opendir(my $directory, "directory") or die "opendir: $!";
print "entries ", join(",", grep { !/^\./ } readdir $directory), "\n";
print `echo from a shell`;
select undef, undef, undef, 0.001;
print "perl done\n";
