/* What a hostile process looks at and tries, in a container: for what a shell cannot do. Static, one verb:
 *   fds              its own fds and where they lead
 *   watch SECONDS    every process it can see, again and again: fds, root, cwd, exe, environ, maps, memory, tracing
 *   overwrite SECONDS  writes to every /proc/PID/exe that is not of its own root
 *   calls NAME…      system calls with harmless rubbish, and the errno of each
 *   swap A B         exchanges two names until killed
 *   stop             sends SIGSTOP to every process that appears
 *   keyring          the serial number of the session keyring
 * What is printed after "FOREIGN" is what a container must never get at. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static dev_t own_root;

static void say(const char *format, ...)
{
	char line[1024];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	(void)!write(1, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The program of the process is not one of this container's root. */
static int is_foreign(int pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	return stat(path, &st) == 0 && st.st_dev != own_root;
}

static void links(const char *folder, const char *word)
{
	DIR *d = opendir(folder);
	struct dirent *f;

	while (d && (f = readdir(d))) {
		char path[400], to[400];
		ssize_t n;

		if (f->d_name[0] == '.' || (d && atoi(f->d_name) == dirfd(d) && !strcmp(word, "fd")))
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, f->d_name);
		n = readlink(path, to, sizeof(to) - 1);
		if (n < 0)
			continue;
		to[n] = '\0';
		say("%s %s %s\n", word, f->d_name, to);
	}
	if (d)
		closedir(d);
}

static void capabilities(int pid)
{
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "CapPrm:", 7) && is_foreign(pid))
			say("FOREIGN caps of %d: %s", pid, line + 8);
	if (f)
		fclose(f);
}

static void look_at_files(int pid)
{
	static const char *const files[] = { "environ", "maps", "mem", "auxv", "syscall", "stack" };
	static const char *const folders[] = { "root", "cwd" };
	char path[64], name[64], byte[64], theirs[64];
	struct stat st;

	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", pid, folders[i]);
		/* A container that has begun is its neighbours' to see where they share a PID namespace. */
		snprintf(theirs, sizeof(theirs), "/proc/%d/root/bin/look", pid);
		if (stat(path, &st) == 0 && st.st_dev != own_root && access(theirs, F_OK) != 0)
			say("FOREIGN %s of %d: device %#x\n", folders[i], pid, (unsigned)st.st_dev);
	}
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		int fd;

		snprintf(path, sizeof(path), "/proc/%d/%s", pid, files[i]);
		fd = open(path, i == 2 ? O_RDWR : O_RDONLY);
		if (fd >= 0 && is_foreign(pid) && (i == 2 || read(fd, byte, sizeof(byte)) > 0))
			say("FOREIGN %s of %d opened\n", files[i], pid);
		if (fd >= 0)
			close(fd);
	}
	if (is_foreign(pid)) {
		say("FOREIGN exe of %d\n", pid);
		capabilities(pid);
		snprintf(path, sizeof(path), "/proc/%d/fd", pid);
		snprintf(name, sizeof(name), "FOREIGN fd of %d:", pid);
		links(path, name);
	}
}

static void trace(int pid)
{
	int status;

	if (ptrace(PTRACE_ATTACH, pid, 0, 0) < 0)
		return;
	(void)waitpid(pid, &status, __WALL);
	if (is_foreign(pid))
		say("FOREIGN process %d traced\n", pid);
	(void)ptrace(PTRACE_DETACH, pid, 0, 0);
}

/* Calls fn for all processes but our own, until the time is over. */
static void for_processes(double seconds, void (*fn)(int pid))
{
	double end = now() + seconds;
	int self = getpid();

	say("watching\n");
	while (now() < end) {
		DIR *d = opendir("/proc");
		struct dirent *f;

		while (d && (f = readdir(d)))
			if (atoi(f->d_name) > 0 && atoi(f->d_name) != self)
				fn(atoi(f->d_name));
		if (d)
			closedir(d);
	}
	say("watched\n");
}

static void watch_one(int pid)
{
	look_at_files(pid);
	trace(pid);
}

static void overwrite_one(int pid)
{
	char path[64], via[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return;
	if (is_foreign(pid)) {
		struct stat st;
		int w;

		snprintf(via, sizeof(via), "/proc/self/fd/%d", fd);
		/* It may be busy while it runs: the file stays in our hands until it ends. */
		for (int i = 0; i < 2000; i++) {
			w = open(via, O_WRONLY | O_APPEND);
			if (w >= 0) {
				if (fstat(w, &st) == 0 && st.st_dev != own_root && write(w, "owned", 5) == 5)
					say("FOREIGN program written\n");
				close(w);
				break;
			}
			if (errno != ETXTBSY)
				break;
			usleep(100);
		}
	}
	close(fd);
}

static void stop_one(int pid)
{
	if (pid > 1)
		(void)kill(pid, SIGSTOP);
}

static int answer(const char *name, long rc)
{
	say("%s %s\n", name, rc < 0 ? strerrorname_np(errno) : "ok");
	return 0;
}

static int in_child(long (*fn)(void), const char *name)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fn() < 0 ? errno : 0);
	(void)waitpid(pid, &status, 0);
	errno = WEXITSTATUS(status);
	return answer(name, WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -1);
}

static long unshare_user(void) { return unshare(CLONE_NEWUSER); }
static long unshare_mount(void) { return unshare(CLONE_NEWNS); }
static long clone_user(void)
{
	long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		_exit(0);
	return pid;
}
static long clone_plain(void)
{
	long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		_exit(0);
	return pid;
}
static long clone3_plain(void)
{
	struct clone_args a = { .exit_signal = SIGCHLD };
	long pid = syscall(SYS_clone3, &a, sizeof(a));

	if (pid == 0)
		_exit(0);
	return pid;
}

static int calls(void)
{
	static const struct {
		const char *name;
		long nr;
		long a, b, c;
	} all[] = {
		{ "add_key", SYS_add_key, 0, 0, 0 }, { "request_key", SYS_request_key, 0, 0, 0 },
		{ "keyctl", SYS_keyctl, 0, -3, 0 }, { "bpf", SYS_bpf, 0, 0, 0 },
		{ "perf_event_open", SYS_perf_event_open, 0, 0, -1 }, { "userfaultfd", SYS_userfaultfd, 0, 0, 0 },
		{ "mount", SYS_mount, 0, 0, 0 }, { "umount2", SYS_umount2, (long)"/proc/kcore", 2, 0 },
		{ "pivot_root", SYS_pivot_root, (long)"/", (long)"/", 0 }, { "fsopen", SYS_fsopen, (long)"tmpfs", 0, 0 },
		{ "open_tree", SYS_open_tree, AT_FDCWD, (long)"/", 1 }, { "move_mount", SYS_move_mount, -1, 0, 0 },
		{ "setns", SYS_setns, -1, 0, 0 }, { "open_by_handle_at", SYS_open_by_handle_at, -1, 0, 0 },
		{ "init_module", SYS_init_module, 0, 0, 0 }, { "finit_module", SYS_finit_module, -1, 0, 0 },
		{ "delete_module", SYS_delete_module, 0, 0, 0 }, { "kexec_load", SYS_kexec_load, 0, 0, 0 },
		{ "reboot", SYS_reboot, 0, 0, 0 }, { "swapon", SYS_swapon, 0, 0, 0 }, { "swapoff", SYS_swapoff, 0, 0, 0 },
		{ "acct", SYS_acct, (long)"/x", 0, 0 }, { "settimeofday", SYS_settimeofday, 0, 0, 0 },
		{ "clock_settime", SYS_clock_settime, 0, 0, 0 }, { "iopl", SYS_iopl, 3, 0, 0 },
		{ "ioperm", SYS_ioperm, 0x80, 1, 1 }, { "quotactl", SYS_quotactl, 0, 0, 0 },
		{ "syslog", SYS_syslog, 3, 0, 0 }, { "vhangup", SYS_vhangup, 0, 0, 0 },
		{ "sethostname", SYS_sethostname, (long)"x", 1, 0 }, { "io_uring_setup", SYS_io_uring_setup, 1, 0, 0 },
		{ "fanotify_init", SYS_fanotify_init, 0, 0, 0 }, { "lookup_dcookie", SYS_lookup_dcookie, 0, 0, 0 },
		{ "vsock", SYS_socket, AF_VSOCK, SOCK_STREAM, 0 },
		{ "mknod_disk", SYS_mknodat, AT_FDCWD, (long)"/tmp/disk", S_IFBLK | 0600 },
		{ "socket", SYS_socket, AF_INET, SOCK_STREAM, 0 }, { "unix", SYS_socket, AF_UNIX, SOCK_STREAM, 0 },
		{ "memfd_create", SYS_memfd_create, (long)"x", 0, 0 }, { "epoll_create1", SYS_epoll_create1, 0, 0, 0 },
		{ "inotify_init1", SYS_inotify_init1, 0, 0, 0 }, { "eventfd2", SYS_eventfd2, 0, 0, 0 },
		{ "mkdir", SYS_mkdirat, AT_FDCWD, (long)"/tmp/made", 0700 },
		{ "chmod", SYS_fchmodat, AT_FDCWD, (long)"/tmp/made", 0711 },
		{ "chown", SYS_chown, (long)"/tmp/made", 0, 0 }, { "getpid", SYS_getpid, 0, 0, 0 },
		{ "membarrier", SYS_membarrier, 0, 0, 0 }, { "openat2", SYS_openat2, -1, 0, 0 },
		{ "pidfd_open", SYS_pidfd_open, 1, 0, 0 }, { "sched_yield", SYS_sched_yield, 0, 0, 0 },
		{ "setuid", SYS_setuid, 0, 0, 0 }, { "kill", SYS_kill, 1, 0, 0 }, { "chroot", SYS_chroot, (long)"/", 0, 0 },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		answer(all[i].name, syscall(all[i].nr, all[i].a, all[i].b, all[i].c,
					    all[i].nr == SYS_mknodat ? (long)makedev(8, 0) : -1L, 0));
	in_child(unshare_user, "unshare_user");
	in_child(unshare_mount, "unshare_mount");
	in_child(clone_user, "clone_user");
	in_child(clone_plain, "clone");
	return in_child(clone3_plain, "clone3");
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	double seconds = argc > 2 ? atof(argv[2]) : 0;
	struct stat st;

	own_root = stat("/bin/busybox", &st) == 0 ? st.st_dev : 0;
	if (!strcmp(verb, "fds")) {
		links("/proc/self/fd", "fd");
	} else if (!strcmp(verb, "watch")) {
		for_processes(seconds, watch_one);
	} else if (!strcmp(verb, "overwrite")) {
		for_processes(seconds, overwrite_one);
	} else if (!strcmp(verb, "stop")) {
		for_processes(seconds, stop_one);
	} else if (!strcmp(verb, "calls")) {
		return calls();
	} else if (!strcmp(verb, "swap") && argc == 4) {
		for (;;)
			(void)syscall(SYS_renameat2, AT_FDCWD, argv[2], AT_FDCWD, argv[3], RENAME_EXCHANGE);
	} else if (!strcmp(verb, "keyring")) {
		say("%ld\n", syscall(SYS_keyctl, 0, -3, 0));
	} else {
		return 2;
	}
	return 0;
}
