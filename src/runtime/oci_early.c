/* The program's entry, before libc begins: a command that will enter a container is executed anew from a
 * read-only clone of the program's own file (runtime_self_protect, which looks again in main() and does it where
 * this did not). Here, because libc's start costs as much as all else of the first life: the CPUID instructions
 * in it, 0.3 ms where a virtual machine traps them.
 *
 * Nothing of libc may be called: system calls, and the stack. The clone is a mount that is never attached, whose
 * end would wait for an RCU grace period in the midst of the exec: a socket that is in its own queue takes it
 * along, and both are garbage for the kernel to collect from then on (fd_close_later). */
#include <fcntl.h>
#include <linux/mount.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

static inline long call(long number, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return ret;
}

static bool same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

/* Whatever the options before it are: an exec too many is no harm. */
static bool enters_container(char *const *argv)
{
	static const char commands[][8] = { "run", "create", "exec", "restore" };

	for (; *argv; argv++)
		for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
			if (same(*argv, commands[i]))
				return true;
	return false;
}

static void leave_to_collector(int fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control = { .head = { .cmsg_len = CMSG_LEN(2 * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	char byte = 0;
	struct iovec bytes = { &byte, 1 };
	struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	int pair[2], *fds = (int *)(void *)CMSG_DATA(&control.head);

	if (call(SYS_socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, (long)pair, 0) < 0)
		return;
	fds[0] = pair[0];
	fds[1] = fd;
	(void)call(SYS_sendmsg, pair[1], (long)&message, 0, 0, 0);
}

void oci_early(long *stack); /* for the entry below */

/* `stack` is what the kernel left: argc, the arguments, NULL, the environment. */
__attribute__((used)) void oci_early(long *stack)
{
	char **argv = (char **)(stack + 1), **envp = argv + stack[0] + 1;
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
	struct statfs fs;
	int fd;

	if (!enters_container(argv) || call(SYS_statfs, (long)"/proc/self/exe", (long)&fs, 0, 0, 0) < 0 ||
	    fs.f_flags & ST_RDONLY)
		return;
	fd = (int)call(SYS_open_tree, AT_FDCWD, (long)"/proc/self/exe", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC, 0, 0);
	if (fd < 0 || call(SYS_mount_setattr, fd, (long)"", AT_EMPTY_PATH, (long)&attr, sizeof(attr)) < 0)
		return;
	leave_to_collector(fd);
	(void)call(SYS_execveat, fd, (long)"", (long)argv, (long)envp, AT_EMPTY_PATH);
}

__asm__(".text\n"
	".globl oci_early_entry\n"
	".type oci_early_entry, @function\n"
	"oci_early_entry:\n"
	"	mov %rsp, %rdi\n"
	"	mov %rsp, %rbx\n"
	"	mov %rdx, %rbp\n"
	"	and $-16, %rsp\n"
	"	call oci_early\n"
	"	mov %rbx, %rsp\n"
	"	mov %rbp, %rdx\n"
	"	jmp _start\n");
