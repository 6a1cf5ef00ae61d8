#include "monitor/client.h"
#include "monitor/state.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SYSCTL_PATH_MAX = 256 };

/* --- sysctls ------------------------------------------------------------------------------------------- */

/* Which namespace a sysctl belongs to; 0: to the whole machine. `key` is a path below /proc/sys. */
static unsigned sysctl_namespace(const char *key)
{
	static const struct {
		const char *prefix;
		unsigned ns;
	} known[] = {
		{ "net/", MONITOR_NS_NET },
		{ "fs/mqueue/", MONITOR_NS_IPC },
		{ "kernel/shm", MONITOR_NS_IPC },
		{ "kernel/msg", MONITOR_NS_IPC },
		{ "kernel/sem", MONITOR_NS_IPC },
		{ "kernel/hostname", MONITOR_NS_UTS },
		{ "kernel/domainname", MONITOR_NS_UTS },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (starts_with(key, known[i].prefix))
			return known[i].ns;
	return 0;
}

/* "net.ipv4.conf.eth0/1.forwarding" is net/ipv4/conf/eth0.1/forwarding; with a slash as its first
 * separator a name is a path already (sysctl.d(5)). */
static int sysctl_path(const char *key, char path[SYSCTL_PATH_MAX], struct err *e)
{
	const char *first = strpbrk(key, "./");
	bool dots = first && *first == '.';
	size_t n = strlen(key);

	if (!n || n >= SYSCTL_PATH_MAX || !first || key[0] == '/' || key[0] == '.')
		return err_set(e, ERR_INVALID, "\"%.200s\" is no sysctl", key);
	for (size_t i = 0; i <= n; i++)
		path[i] = !dots ? key[i] : key[i] == '.' ? '/' : key[i] == '/' ? '.' : key[i];
	if (strstr(path, "../") || strstr(path, "//") || ends_with(path, "/.."))
		return err_set(e, ERR_INVALID, "\"%s\" is no sysctl", key);
	return 0;
}

static int sysctl_write(const struct pod *p, int dir, const char *key, const char *value, struct err *e)
{
	char path[SYSCTL_PATH_MAX];
	auto_fd int fd = -1;
	unsigned ns;

	if (sysctl_path(key, path, e) < 0)
		return -1;
	ns = sysctl_namespace(path);
	if (!ns)
		return err_set(e, ERR_INVALID, "sysctl %s belongs to the whole node, not to a pod", key);
	if (!(p->namespaces & ns))
		return err_set(e, ERR_INVALID, "sysctl %s would change the node: the pod shares its namespace",
			       key);
	fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, errno, "sysctl %s", key);
	if (write(fd, value, strlen(value)) < 0)
		return err_sys(e, errno, "set sysctl %s to \"%.100s\"", key, value);
	return 0;
}

int setup_sysctls(struct pod *p, const struct message *m, struct err *e)
{
	struct str rest = m->fields;
	const char *key = NULL;
	struct message_field f;
	auto_fd int dir = -1;

	while (message_next(&rest, &f)) {
		if (f.tag == TAG_SYSCTL_KEY)
			key = f.bytes.p;
		if (f.tag != TAG_SYSCTL_VALUE || !key)
			continue;
		if (dir < 0 && (dir = fd_open(AT_FDCWD, "/proc/sys", O_PATH | O_DIRECTORY, e)) < 0)
			return -1;
		if (sysctl_write(p, dir, key, f.bytes.p, e) < 0)
			return -1;
		key = NULL;
	}
	return 0;
}

/* --- namespaces ---------------------------------------------------------------------------------------- */

static int loopback_up(struct err *e)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	auto_fd int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (sock < 0)
		return err_sys(e, errno, "socket");
	if (ioctl(sock, SIOCSIFFLAGS, &lo) < 0)
		return err_sys(e, errno, "bring lo up");
	return 0;
}

/* A copy that lives as long as we do. */
static int map_take(const struct message *m, unsigned tag, const struct idmap **map, size_t *n, struct err *e)
{
	struct str bytes = message_bytes(m, tag);
	struct idmap *mine;

	if (!bytes.len || bytes.len % sizeof(*mine) || bytes.len > IDMAP_MAX * sizeof(*mine))
		return err_set(e, ERR_INVALID, "SETUP with a map of ids of %zu bytes", bytes.len);
	mine = mmap(NULL, bytes.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mine == MAP_FAILED)
		return err_sys(e, errno, "map a page for ids");
	memcpy(mine, bytes.p, bytes.len);
	*map = mine;
	*n = bytes.len / sizeof(*mine);
	return 0;
}

/* The pod's user namespace, and those that it owns. We enter the latter only: in it we would lose our rights. */
static int userns_of_pod(struct pod *p, const struct message *m, int flags, struct err *e)
{
	struct userns_part parts[] = { { CLONE_NEWNET, -1 }, { CLONE_NEWIPC, -1 }, { CLONE_NEWUTS, -1 } };
	auto_fd int user = -1;
	size_t n = 0;
	int rc = 0;

	if (map_take(m, TAG_UID_MAP, &p->maps.uids, &p->maps.nuids, e) < 0 ||
	    map_take(m, TAG_GID_MAP, &p->maps.gids, &p->maps.ngids, e) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (flags & parts[i].kind)
			parts[n++] = parts[i];
	if (userns_make(p->runtime.proc_fd, &p->maps, parts, n, &user, e) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (rc == 0 && setns(parts[i].fd, parts[i].kind) < 0)
			rc = err_sys(e, errno, "join the namespaces");
		fd_close(&parts[i].fd);
	}
	if (rc < 0)
		return -1;
	if (fcntl(MONITOR_USERNS_FD, F_GETFD) >= 0 || dup3(user, MONITOR_USERNS_FD, O_CLOEXEC) < 0)
		return err_set(e, ERR_INTERNAL, "fd %d is not free", MONITOR_USERNS_FD);
	p->pod_userns = MONITOR_USERNS_FD;
	return 0;
}

static int namespaces_make(struct pod *p, const struct message *m, struct err *e)
{
	const char *hostname = message_text(m, TAG_HOSTNAME, "");
	int flags = (p->namespaces & MONITOR_NS_NET ? CLONE_NEWNET : 0) |
		    (p->namespaces & MONITOR_NS_IPC ? CLONE_NEWIPC : 0) |
		    (p->namespaces & MONITOR_NS_UTS ? CLONE_NEWUTS : 0);

	if (p->namespaces & MONITOR_NS_USER) {
		if (userns_of_pod(p, m, flags, e) < 0)
			return err_in(e, "pod %s", p->id);
	} else if (flags && unshare(flags) < 0) {
		return err_sys(e, errno, "make the namespaces of pod %s (unshare)", p->id);
	}
	if (p->namespaces & MONITOR_NS_UTS && *hostname && sethostname(hostname, strlen(hostname)) < 0)
		return err_sys(e, errno, "sethostname \"%s\"", hostname);
	if (p->namespaces & MONITOR_NS_NET && loopback_up(e) < 0)
		return -1;
	return 0;
}

enum { SETUP_LEAN = BIT(0), SETUP_IN_UNIFIED = BIT(1) }; /* TAG_FLAGS */

/* --- SETUP --------------------------------------------------------------------------------------------- */

/* knarrd's view of the cgroup hierarchies, with our own fds: this mount namespace has none of them. */
static int runtime_take(struct pod *p, struct request *r, struct err *e)
{
	struct str layout = message_bytes(&r->m, TAG_CGROUP_LAYOUT), rest = r->m.fields;
	unsigned flags = message_number(&r->m, TAG_FLAGS, 0) & SETUP_LEAN ? RUNTIME_LEAN : 0;
	struct cgroup_layout cgroups;
	struct message_field f;
	size_t n = 0;

	if (layout.len != sizeof(cgroups))
		return err_set(e, ERR_INVALID, "SETUP with a cgroup layout of %zu bytes", layout.len);
	memcpy(&cgroups, layout.p, layout.len);
	if (cgroups.nh > CGROUP_HIERARCHY_MAX)
		return err_set(e, ERR_INVALID, "SETUP with %zu cgroup hierarchies", cgroups.nh);
	for (size_t i = 0; i < CGROUP_HIERARCHY_MAX; i++)
		cgroups.h[i].root_fd = -1;
	while (message_next(&rest, &f)) {
		if (f.tag != TAG_CGROUP_ROOT_FD)
			continue;
		if (n == cgroups.nh)
			return err_set(e, ERR_INVALID, "SETUP with too many cgroup hierarchies");
		if (request_take_fd(r, f.number, &cgroups.h[n++].root_fd, e) < 0)
			return -1;
	}
	if (n != cgroups.nh)
		return err_set(e, ERR_INVALID, "SETUP with %zu cgroup hierarchies of %zu", n, cgroups.nh);
	return runtime_open_with(&p->runtime, &cgroups, flags, e);
}

static void oom_score_set(int64_t score)
{
	char text[32];
	auto_fd int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	(void)snprintf(text, sizeof(text), "%lld", (long long)score);
	if (fd >= 0)
		(void)!write(fd, text, strlen(text)); /* may not be lowered without CAP_SYS_RESOURCE */
}

static int answer_namespace(struct request *r, unsigned tag, const char *path, int *fd, struct err *e)
{
	*fd = fd_open(AT_FDCWD, path, O_RDONLY, e);
	if (*fd < 0)
		return -1;
	answer_fd(r, tag, *fd);
	return 0;
}

/* Its fds go with the answer: they are closed by the caller of setup_pod() through r->fds. */
static int answer_namespaces(struct pod *p, struct request *r, struct err *e)
{
	static const struct {
		unsigned ns, tag;
		const char *path;
	} all[] = {
		{ MONITOR_NS_NET, TAG_NET_FD, "/proc/self/ns/net" },
		{ MONITOR_NS_IPC, TAG_IPC_FD, "/proc/self/ns/ipc" },
		{ MONITOR_NS_UTS, TAG_UTS_FD, "/proc/self/ns/uts" },
	};

	r->nfds = 0; /* all were taken */
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		if (!(p->namespaces & all[i].ns))
			continue;
		if (answer_namespace(r, all[i].tag, all[i].path, &r->fds[r->nfds], e) < 0)
			return -1;
		r->nfds++;
	}
	if (p->pod_pidns >= 0)
		answer_fd(r, TAG_PIDNS_FD, p->pod_pidns);
	if (p->pod_userns >= 0)
		answer_fd(r, TAG_USERNS_FD, p->pod_userns);
	message_add_number(&r->answer, TAG_PID, (uint64_t)getpid());
	message_add_number(&r->answer, TAG_INIT_PID, (uint64_t)p->init_pid);
	message_add_number(&r->answer, TAG_PROTOCOL_MOST, MESSAGE_VERSION);
	return 0;
}

static int setup_steps(struct pod *p, struct request *r, struct err *e)
{
	const char *id, *cgroup = message_text(&r->m, TAG_CGROUP, "");
	int skip = message_number(&r->m, TAG_FLAGS, 0) & SETUP_IN_UNIFIED ? CGROUP_SKIP_UNIFIED : 0;

	if (message_need_text(&r->m, TAG_POD_ID, "pod id", &id, e) < 0)
		return -1;
	if (strlen(id) > POD_ID_MAX)
		return err_set(e, ERR_INVALID, "a pod id of %zu bytes", strlen(id));
	memcpy(p->id, id, strlen(id) + 1);
	p->namespaces = (unsigned)message_number(&r->m, TAG_NAMESPACES, 0);
	if (request_need_fd(r, TAG_LISTEN_FD, "socket", &p->listen, e) < 0 ||
	    request_need_fd(r, TAG_STATE_DIR_FD, "state folder", &p->state_dir, e) < 0 ||
	    runtime_take(p, r, e) < 0 || handler_take(p, r, e) < 0)
		return -1;
	if (*cgroup && cgroup_join_self(&p->runtime.cgroups, cgroup, NULL, skip, e) < 0)
		return -1;
	if (message_number(&r->m, TAG_OOM_SCORE_ADJ, 0))
		oom_score_set((int64_t)message_number(&r->m, TAG_OOM_SCORE_ADJ, 0));
	if (namespaces_make(p, &r->m, e) < 0 ||
	    setup_sysctls(p, &r->m, e) < 0)
		return -1;
	if (p->namespaces & MONITOR_NS_PID && init_start(p, e) < 0)
		return -1;
	return fd_set_nonblocking(p->listen, e);
}

int setup_pod(struct pod *p, struct request *r, struct err *e)
{
	if (setup_steps(p, r, e) < 0 || answer_namespaces(p, r, e) < 0 ||
	    loop_watch(p, p->listen, EPOLLIN, SOURCE_LISTEN, 0, STREAM_OUT, e) < 0) {
		p->quit = true; /* the answer says why; nothing outlives it */
		return -1;
	}
	p->state = POD_UP;
	return 0;
}
