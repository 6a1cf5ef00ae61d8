/* floor: the least that the kernel itself takes for `run` of the bundle that bench/oci/run times: the cgroups made and removed,
 * one clone into all namespaces, the mounts, the devices, pivot_root, capabilities, exec. No configuration is read and no
 * state is written; the child shares its parent's memory.
 *
 * usage: floor ROOTFS CGROUP PROGRAM    (CGROUP: a name, made below each hierarchy's root; root's rights are needed) */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HIERARCHIES_MAX = 16, STACK_BYTES = 65536 };
#define NSX (MS_NOSUID | MS_NOEXEC | MS_NODEV)

static const char *const v1_names[] = { "cpu", "cpuacct", "cpu,cpuacct", "cpuset", "memory", "devices", "freezer", "blkio",
					"pids", "net_cls,net_prio", "perf_event", "systemd", "unified" };
static const char *names[HIERARCHIES_MAX];
static int nnames;
static const char *rootfs, *cgroup, *program;
static char stack[STACK_BYTES] __attribute__((aligned(64)));

static void die(const char *what)
{
	(void)fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	_exit(111);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(path);
	(void)close(fd);
}

static void mounted(const char *from, const char *at, const char *type, unsigned long flags, const char *data)
{
	if (mount(from, at, type, flags, data) < 0)
		die(at);
}

static const char *in_cgroup(int i, const char *file)
{
	static char path[512];

	(void)snprintf(path, sizeof(path), "/sys/fs/cgroup/%s/%s%s%s", names[i], cgroup, *file ? "/" : "", file);
	return path;
}

static int is_unified(int i)
{
	return !*names[i] || strcmp(names[i], "unified") == 0;
}

static void find_hierarchies(void)
{
	char path[256];

	if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0) {
		names[nnames++] = "";
		return;
	}
	for (size_t i = 0; i < sizeof(v1_names) / sizeof(*v1_names); i++) {
		struct stat st;

		(void)snprintf(path, sizeof(path), "/sys/fs/cgroup/%s", v1_names[i]);
		if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode))
			continue; /* "cpu" may be a link to "cpu,cpuacct" */
		(void)snprintf(path, sizeof(path), "/sys/fs/cgroup/%s/cgroup.procs", v1_names[i]);
		if (access(path, F_OK) == 0)
			names[nnames++] = v1_names[i];
	}
}

static void inherit_cpuset(int i)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };

	for (int k = 0; k < 2; k++) {
		char path[256], text[256];
		ssize_t n;
		int fd;

		(void)snprintf(path, sizeof(path), "/sys/fs/cgroup/%s/%s", names[i], files[k]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		if (n < 0)
			die(path);
		(void)close(fd);
		text[n] = '\0';
		put(in_cgroup(i, files[k]), text);
	}
}

static void make_cgroups(void)
{
	static const char *const allowed[] = { "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:8 rwm", "c 1:7 rwm", "c 5:0 rwm",
					       "c 1:5 rwm", "c 1:9 rwm", "c 136:* rwm", "c 5:2 rwm" };

	for (int i = 0; i < nnames; i++) {
		if (mkdir(in_cgroup(i, ""), 0755) < 0 && errno != EEXIST)
			die(in_cgroup(i, ""));
		if (strcmp(names[i], "cpuset") == 0)
			inherit_cpuset(i);
		if (strcmp(names[i], "devices") != 0)
			continue;
		put(in_cgroup(i, "devices.deny"), "a");
		for (size_t k = 0; k < sizeof(allowed) / sizeof(*allowed); k++)
			put(in_cgroup(i, "devices.allow"), allowed[k]);
	}
}

static void mount_cgroups(void)
{
	char at[256];

	if (!*names[0]) {
		mounted("cgroup2", "sys/fs/cgroup", "cgroup2", NSX | MS_RDONLY, NULL);
		return;
	}
	mounted("tmpfs", "sys/fs/cgroup", "tmpfs", NSX, "mode=755");
	for (int i = 0; i < nnames; i++) {
		if (is_unified(i))
			continue;
		(void)snprintf(at, sizeof(at), "sys/fs/cgroup/%s", names[i]);
		if (mkdir(at, 0755) < 0)
			die(at);
		mounted(in_cgroup(i, ""), at, NULL, MS_BIND, NULL);
		mounted(NULL, at, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | NSX, NULL);
	}
	mounted(NULL, "sys/fs/cgroup", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | NSX, NULL);
}

static void make_devices(void)
{
	static const struct {
		const char *name;
		unsigned major, minor;
	} nodes[] = { { "dev/null", 1, 3 }, { "dev/zero", 1, 5 }, { "dev/full", 1, 7 }, { "dev/random", 1, 8 },
		      { "dev/urandom", 1, 9 }, { "dev/tty", 5, 0 } };
	static const char *const links[][2] = {
		{ "/proc/self/fd", "dev/fd" }, { "/proc/self/fd/0", "dev/stdin" }, { "/proc/self/fd/1", "dev/stdout" },
		{ "/proc/self/fd/2", "dev/stderr" }, { "/proc/kcore", "dev/core" }, { "pts/ptmx", "dev/ptmx" } };

	(void)umask(0);
	for (size_t i = 0; i < sizeof(nodes) / sizeof(*nodes); i++)
		if (mknod(nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)) < 0)
			die(nodes[i].name);
	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++)
		if (symlink(links[i][0], links[i][1]) < 0)
			die(links[i][1]);
	(void)umask(022);
}

static void hide(void)
{
	static const char *const readonly[] = { "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger" };
	static const char *const masked[] = { "proc/acpi", "proc/asound", "proc/kcore", "proc/keys", "proc/latency_stats",
					      "proc/timer_list", "proc/timer_stats", "proc/sched_debug", "sys/firmware",
					      "proc/scsi" };

	for (size_t i = 0; i < sizeof(readonly) / sizeof(*readonly); i++)
		if (mount(readonly[i], readonly[i], NULL, MS_BIND | MS_REC, NULL) == 0)
			mounted(NULL, readonly[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | NSX, NULL);
	for (size_t i = 0; i < sizeof(masked) / sizeof(*masked); i++) {
		struct stat st;

		if (stat(masked[i], &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			mounted("tmpfs", masked[i], "tmpfs", MS_RDONLY, NULL);
		else
			mounted("dev/null", masked[i], NULL, MS_BIND, NULL);
	}
}

static void confine(void)
{
	static const struct rlimit files = { 1024, 1024 };
	const unsigned keep = 1u << CAP_AUDIT_WRITE | 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE;
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { { keep & ~(1u << CAP_AUDIT_WRITE), keep & ~(1u << CAP_AUDIT_WRITE), 0 },
						  { 0, 0, 0 } };

	(void)setrlimit(RLIMIT_NOFILE, &files);
	for (int i = 0; i <= CAP_LAST_CAP; i++)
		if (i > 31 || !(keep >> i & 1))
			(void)prctl(PR_CAPBSET_DROP, i);
	if (syscall(SYS_capset, &head, data) < 0)
		die("capset");
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static int child(void *unused)
{
	char *const args[] = { (char *)program, NULL }, *const env[] = { (char *)"PATH=/bin", (char *)"TERM=xterm", NULL };

	(void)unused;
	for (int i = 0; i < nnames; i++)
		put(in_cgroup(i, is_unified(i) ? "cgroup.procs" : "tasks"), "0");
	if (unshare(CLONE_NEWCGROUP) < 0)
		die("cgroup namespace");
	mounted(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL);
	mounted(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL);
	if (chdir(rootfs) < 0)
		die(rootfs);
	mounted("proc", "proc", "proc", 0, NULL);
	mounted("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
	if (mkdir("dev/pts", 0755) < 0 || mkdir("dev/shm", 01777) < 0 || mkdir("dev/mqueue", 0755) < 0)
		die("dev");
	mounted("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
	mounted("shm", "dev/shm", "tmpfs", NSX, "mode=1777,size=65536k");
	mounted("mqueue", "dev/mqueue", "mqueue", NSX, NULL);
	mounted("sysfs", "sys", "sysfs", NSX | MS_RDONLY, NULL);
	mount_cgroups();
	make_devices();
	hide();
	mounted(NULL, rootfs, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL);
	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		die("pivot_root");
	(void)sethostname("bench", 5);
	confine();
	(void)execve(program, args, env);
	die(program);
	return 1;
}

int main(int argc, char **argv)
{
	int status;
	pid_t pid;

	if (argc != 4) {
		(void)fprintf(stderr, "usage: floor ROOTFS CGROUP PROGRAM\n");
		return 2;
	}
	rootfs = argv[1];
	cgroup = argv[2];
	program = argv[3];
	find_hierarchies();
	make_cgroups();
	pid = clone(child, stack + sizeof(stack), CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID |
		    CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		die("clone");
	for (int i = 0; i < nnames; i++)
		while (rmdir(in_cgroup(i, "")) < 0)
			if (errno != EBUSY)
				die("remove a cgroup");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}
