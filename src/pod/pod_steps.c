/* How a pod is made, and how what was made is undone: by a failing step, by StopPodSandbox and
 * RemovePodSandbox, and by recovery. An undo is harmless where its step was not done.
 *
 * The record is written twice only, as intent and when all is done: since every undo may run without
 * its step, recovery undoes an unfinished pod from the last step on, and how far it had got costs
 * no write. */
#include "pod/handler.h"

#include "base/log.h"
#include "net/net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CGROUP_REMOVE_WAIT_MS = 2000 };

const char *pod_run_path(struct arena *a, const struct pod *p, const char *name)
{
	return arena_printf(a, "%s/pods/%s/%s", p->all->settings.run, p->id, name);
}

static bool has_own_netns(const struct pod *p)
{
	return p->config->namespaces.network != CONFIG_NS_NODE;
}

/* CRI has no word for a namespace with nothing in it but lo, which a user may wish (--network none). */
static bool wants_network(const struct pod *p)
{
	const char *wish = json_map_get(&p->config->annotations, POD_ANNOTATION_NETWORK);

	return has_own_netns(p) && !(p->owner == POD_OWNER_USER && streq_null(wish, "none"));
}

static int open_folder(int base, const char *id, int *fd, struct err *e)
{
	int new;

	if (*fd >= 0)
		return 0;
	new = fd_open(base, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, e);
	if (new < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	*fd = new;
	return 0;
}

int pod_open_folders(struct pod *p, struct err *e)
{
	if (open_folder(p->all->run_fd, p->id, &p->run_dirfd, e) < 0)
		return -1;
	return open_folder(p->all->root_fd, p->id, &p->state_dirfd, e);
}

static int make_folder(int base, const char *id, int *fd, struct err *e)
{
	if (mkdirat(base, id, 0711) < 0 && errno != EEXIST)
		return err_sys(e, errno, "mkdir %s", id);
	if (open_folder(base, id, fd, e) < 0)
		return -1;
	return *fd < 0 ? err_set(e, ERR_NOT_FOUND, "folder of pod %s is gone", id) : 0;
}

/* --- record, folder: what stays until the pod is removed ------------------------------------------------ */

static int record_act(void *ctx, struct err *e)
{
	return pod_save(ctx, e);
}

static int record_undo(void *ctx, struct err *e)
{
	return pod_record_delete(ctx, e);
}

static int folder_act(void *ctx, struct err *e)
{
	struct pod *p = ctx;

	return make_folder(p->all->root_fd, p->id, &p->state_dirfd, e);
}

static int folder_undo(void *ctx, struct err *e)
{
	struct pod *p = ctx;

	return fs_remove_tree(p->all->root_fd, p->id, e);
}

/* --- files, cgroup -------------------------------------------------------------------------------------- */

static int files_act(void *ctx, struct err *e)
{
	struct pod *p = ctx;

	if (make_folder(p->all->run_fd, p->id, &p->run_dirfd, e) < 0)
		return -1;
	return pod_files_make(p, e);
}

static int files_undo(void *ctx, struct err *e)
{
	struct pod *p = ctx;

	return fs_remove_tree(p->all->run_fd, p->id, e);
}

static int shm_act(void *ctx, struct err *e)
{
	return pod_shm_make(ctx, e);
}

static int shm_undo(void *ctx, struct err *e)
{
	return pod_shm_remove(ctx, e);
}

static int cgroup_act(void *ctx, struct err *e)
{
	auto_arena a = { 0 };
	struct pod *p = ctx;
	const char *path;

	if (unit_pod_cgroup(&a, p, p->all->settings.crio_names, &path, e) < 0)
		return -1;
	return cgroup_create(&p->all->cgroups, path, e);
}

static int cgroup_undo(void *ctx, struct err *e)
{
	auto_arena a = { 0 };
	struct pod *p = ctx;
	const char *path;

	/* The name may have been the other one, in the knarrd that made it. */
	for (int crio_names = 0; crio_names <= 1; crio_names++) {
		if (unit_pod_cgroup(&a, p, crio_names, &path, e) < 0)
			return 0; /* such a path was never made */
		if (crio_names != p->all->settings.crio_names && !cgroup_exists(&p->all->cgroups, path))
			continue;
		if (cgroup_remove(&p->all->cgroups, path, CGROUP_REMOVE_WAIT_MS, e) < 0)
			return -1;
	}
	return 0;
}

/* --- knarr-pod ------------------------------------------------------------------------------------------ */

static unsigned namespaces_of(const struct pod *p)
{
	const struct config_namespaces *ns = &p->config->namespaces;
	unsigned all = 0;

	if (has_own_netns(p))
		all |= MONITOR_NS_NET | MONITOR_NS_UTS;
	if (ns->ipc == CONFIG_NS_POD)
		all |= MONITOR_NS_IPC;
	if (ns->pid == CONFIG_NS_POD)
		all |= MONITOR_NS_PID;
	if (config_userns(ns))
		all |= MONITOR_NS_USER;
	return all;
}

/* net.ipv4.conf.eth0.rp_filter and the like: they can be written only after CNI ADD. */
static bool names_interface(const char *key)
{
	static const char *const before[] = { "net.ipv4.conf.", "net.ipv6.conf.", "net.ipv4.neigh.",
					      "net.ipv6.neigh.", "net/ipv4/conf/", "net/ipv6/conf/",
					      "net/ipv4/neigh/", "net/ipv6/neigh/" };

	for (size_t i = 0; i < ARRAY_SIZE(before); i++) {
		const char *rest = key + strlen(before[i]);

		if (!starts_with(key, before[i]))
			continue;
		return !starts_with(rest, "all.") && !starts_with(rest, "default.") && !starts_with(rest, "lo.") &&
		       !starts_with(rest, "all/") && !starts_with(rest, "default/") && !starts_with(rest, "lo/");
	}
	return false;
}

/* "net.ipv4.x" or "net/ipv4/x". */
static bool sysctl_is_given(const struct json_map *given, const char *name)
{
	for (size_t i = 0; i < given->count; i++) {
		const char *key = given->p[i].key, *n = name;

		while (*n && (*key == *n || (*key == '/' && *n == '.')))
			key++, n++;
		if (!*key && !*n)
			return true;
	}
	return false;
}

/* In a network namespace of its own nobody needs to be root for port 80 and for ping: images count on it, since
 * docker and containerd have it so. */
static const struct monitor_sysctl network_defaults[] = {
	{ "net.ipv4.ip_unprivileged_port_start", "0" },
	{ "net.ipv4.ping_group_range", "0 2147483647" },
};

static size_t sysctls_of(struct arena *a, const struct pod *p, bool of_interface, struct monitor_sysctl **out)
{
	const struct json_map *all = &p->config->sysctls;
	size_t n = 0;

	*out = arena_newn0(a, struct monitor_sysctl, all->count + ARRAY_SIZE(network_defaults));
	for (size_t i = 0; i < ARRAY_SIZE(network_defaults) && !of_interface && has_own_netns(p); i++)
		if (!sysctl_is_given(all, network_defaults[i].key))
			(*out)[n++] = network_defaults[i];
	for (size_t i = 0; i < all->count; i++)
		if (names_interface(all->p[i].key) == of_interface)
			(*out)[n++] = (struct monitor_sysctl){ all->p[i].key, all->p[i].value };
	return n;
}

static int monitor_act(void *ctx, struct err *e)
{
	struct pod *p = ctx;
	struct call *c = &p->making.call;
	struct monitor_command command = { .dir_fd = -1 };
	struct monitor_sysctl *sysctls;
	struct monitor_pod_spec spec = {
		.pod_id = p->id, .run_dirfd = p->run_dirfd, .state_dirfd = p->state_dirfd,
		.namespaces = namespaces_of(p), .cgroup = p->all->settings.monitor_cgroup,
		.hostname = !has_own_netns(p) || !p->config->hostname ? "" : p->config->hostname,
		.oom_score_adj = -999,
	};
	int rc;

	(void)pod_idmaps(&c->arena, p, &spec.idmaps); /* none: the host's user namespace */
	spec.nsysctls = sysctls_of(&c->arena, p, false, &sysctls);
	spec.sysctls = sysctls;
	if (handler_is_foreign(p)) {
		if (handler_prepare(p, &c->arena, &command, e) < 0)
			return -1;
		spec.command = &command;
	}
	rc = monitor_begin(c, &p->all->program, &spec, &p->birth, e);
	fd_close(&command.dir_fd);
	return rc;
}

/* knarr-pod started while the steps between were done. */
static int born_act(void *ctx, struct err *e)
{
	struct pod *p = ctx;
	struct monitor_started s;

	if (monitor_born(&p->making.call, &p->birth, &s, e) < 0)
		return -1;
	lock_acquire(&p->all->lock);
	p->monitor = s.monitor;
	p->init_pid = s.init_pid;
	p->pidfd = s.pidfd;
	lock_release(&p->all->lock);
	p->netns_fd = s.netns_fd;
	fd_close(&s.ipcns_fd);
	fd_close(&s.utsns_fd);
	fd_close(&s.pidns_fd);
	fd_close(&s.userns_fd);
	return 0;
}

/* Asks it to end, which records the exits of what it held, and kills it where it does not answer. */
static int monitor_end(struct pod *p)
{
	auto_call c;
	struct err e;

	pod_short_call(&c, NULL);
	if (p->run_dirfd < 0 || monitor_shutdown(&c, p->run_dirfd, &e) == 0)
		return 0;
	if (e.kind == ERR_TIMEOUT)
		pod_monitor_condemn(p, &e);
	else
		log_warn("knarr-pod did not end by itself pod=%s: %s", p->id, e.msg);
	return -1;
}

/* The process by its pidfd, or by the pid and start time that were recorded: never another one. */
static int monitor_pidfd(const struct pod *p)
{
	uint64_t ticks;
	struct err e;
	int fd;

	if (p->monitor.pid <= 0)
		return -1;
	fd = proc_pidfd_open(p->monitor.pid, &e);
	if (fd < 0)
		return -1;
	if (proc_start_time(p->monitor.pid, &ticks, &e) < 0 || ticks != p->monitor.start_ticks)
		fd_close(&fd);
	return fd;
}

static int monitor_reap(int pidfd, struct err *e)
{
	auto_call c;
	siginfo_t info;

	call_begin(&c, clock_mono_ns() + 5 * NS_PER_S);
	(void)proc_signal(pidfd, SIGKILL, e); /* gone already is fine */
	if (io_wait(&c, pidfd, POLLIN, e) < 0)
		return err_in(e, "wait for the end of knarr-pod");
	(void)waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG); /* not our child after a restart */
	return 0;
}

static int monitor_undo(void *ctx, struct err *e)
{
	struct pod *p = ctx;
	auto_fd int pidfd = -1;

	monitor_birth_end(&p->birth);
	lock_acquire(&p->all->lock);
	pidfd = fd_take(&p->pidfd);
	lock_release(&p->all->lock);
	if (pidfd < 0)
		pidfd = monitor_pidfd(p);
	/* A knarrd killed while it made the pod has not recorded who knarr-pod is. */
	if (p->run_dirfd >= 0 && (pidfd < 0 || !proc_pidfd_is_dead(pidfd)) && monitor_end(p) < 0 && pidfd < 0)
		pidfd = monitor_seek(p->id);
	if (pidfd >= 0 && monitor_reap(pidfd, e) < 0)
		return -1;
	if (pod_kill_containers(p, e) < 0 || handler_clear(p, e) < 0)
		return -1;
	LOCKED(&p->all->lock);
	p->monitor = (struct monitor){ 0 };
	p->init_pid = 0;
	return 0;
}

/* One that has not answered is killed; monitor_undo() ends one that has, and does this too where it was
 * not done. */
static int born_undo(void *ctx, UNUSED struct err *e)
{
	struct pod *p = ctx;

	monitor_birth_end(&p->birth);
	return 0;
}

/* The name that CNI plugins, NRI and kubelet's drivers know the network namespace by. */
static int netns_act(void *ctx, struct err *e)
{
	struct pod *p = ctx;
	int rc;

	if (p->netns_fd < 0)
		return 0;
	rc = pod_netns_bind(p, p->netns_fd, e);
	fd_close(&p->netns_fd);
	if (rc < 0)
		return -1;
	LOCKED(&p->all->lock);
	p->netns_path = arena_printf(&p->arena, "%s/knarr-%s", p->all->settings.netns_dir, p->id);
	return 0;
}

static int netns_undo(void *ctx, struct err *e)
{
	struct pod *p = ctx;

	if (p->network_added)
		return err_set(e, ERR_STATE, "pod %s's network namespace is kept until CNI DEL has succeeded",
			       p->id);
	return pod_netns_unbind(p, e);
}

/* --- the network ---------------------------------------------------------------------------------------- */

static struct net_port *ports_of(struct arena *a, const struct pod *p)
{
	const struct config_port *c = p->config->ports.p;
	struct net_port *ports = arena_newn0(a, struct net_port, p->config->ports.count + 1);

	for (size_t i = 0; i < p->config->ports.count; i++)
		ports[i] = (struct net_port){ c[i].protocol ? c[i].protocol : "tcp", (uint16_t)c[i].container_port,
					      (uint16_t)c[i].host_port, c[i].host_ip ? c[i].host_ip : "" };
	return ports;
}

/* "10M", "1G", "512k", plain digits: Kubernetes' quantities, of bits per second. */
static uint64_t bandwidth(const struct pod *p, const char *annotation)
{
	static const struct { const char *suffix; double factor; } units[] = {
		{ "Ki", 1024 }, { "Mi", 1048576 }, { "Gi", 1073741824 }, { "Ti", 1099511627776.0 },
		{ "k", 1e3 }, { "K", 1e3 }, { "M", 1e6 }, { "G", 1e9 }, { "T", 1e12 }, { "m", 1e-3 }, { "", 1 },
	};
	const char *text = json_map_get(&p->config->annotations, annotation);
	char *end;
	double d = text ? strtod(text, &end) : 0;

	if (!text || !(d > 0))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (streq(end, units[i].suffix) && d * units[i].factor < 0x1p63)
			return (uint64_t)(d * units[i].factor);
	log_warn("annotation %s is no bandwidth pod=%s", annotation, p->id);
	return 0;
}

static struct net_request net_request_of(struct arena *a, const struct pod *p)
{
	const struct pod_config *c = p->config;

	return (struct net_request){
		.pod_id = p->id, .netns_path = p->netns_path, .namespace_ = c->namespace_ ? c->namespace_ : "",
		.name = c->name ? c->name : "", .uid = c->uid ? c->uid : "", .ports = ports_of(a, p),
		.nports = c->ports.count,
		.ingress_bits = bandwidth(p, "kubernetes.io/ingress-bandwidth"),
		.egress_bits = bandwidth(p, "kubernetes.io/egress-bandwidth"),
		.configured_only = p->owner == POD_OWNER_KUBELET,
		.cgroup_path = c->cgroup_parent, .dns_servers = c->dns_servers,
		.dns_searches = c->dns_searches, .dns_options = c->dns_options,
	};
}

static void network_is_added(struct pod *p, bool added)
{
	LOCKED(&p->all->lock);

	p->network_added = added;
}

static int network_act(void *ctx, struct err *e)
{
	struct pod *p = ctx;
	struct call *c = &p->making.call;
	struct net_request r;
	struct net_result result = { 0 };
	struct monitor_sysctl *sysctls;
	size_t n;

	if (!wants_network(p))
		return pod_hosts_make(p, e);
	network_is_added(p, true);
	r = net_request_of(&c->arena, p);
	if (net_add(p->all->net, c, &r, &result, e) < 0)
		return -1;
	lock_acquire(&p->all->lock);
	p->ips = result.ips ? strv_dup(&p->arena, result.ips) : NULL;
	lock_release(&p->all->lock);
	n = sysctls_of(&c->arena, p, true, &sysctls);
	if (n && monitor_sysctls(c, p->run_dirfd, sysctls, n, e) < 0)
		return -1;
	return pod_hosts_make(p, e);
}

static int network_undo(void *ctx, struct err *e)
{
	struct pod *p = ctx;
	struct net_request r;
	auto_call c;

	call_begin(&c, 0); /* net kills a plugin that runs too long */
	/* After a crash nobody remembers whether ADD was begun; net does, in its own record. */
	if (!wants_network(p))
		return 0;
	network_is_added(p, true);
	r = net_request_of(&c.arena, p);
	if (r.netns_path && faccessat(AT_FDCWD, r.netns_path, F_OK, 0) < 0)
		r.netns_path = NULL;
	if (net_del(p->all->net, &c, &r, e) < 0)
		return -1;
	network_is_added(p, false);
	return 0;
}

/* --- watching ------------------------------------------------------------------------------------------- */

static int watch_act(void *ctx, struct err *e)
{
	struct pod *p = ctx;
	int fd;

	if (monitor_subscribe(&p->making.call, p->run_dirfd, &fd, e) < 0)
		return -1;
	p->event_fd = fd;
	return watch_add(p, e);
}

static int watch_undo(void *ctx, UNUSED struct err *e)
{
	watch_remove(ctx);
	return 0;
}

static int containers_act(UNUSED void *ctx, UNUSED struct err *e)
{
	return 0;
}

/* Their exits are recorded by knarr-pod and read by pod_settle(). */
static int containers_undo(void *ctx, UNUSED struct err *e)
{
	struct pod *p = ctx;

	if (p->monitor.pid > 0)
		(void)monitor_end(p); /* monitor_undo() ends one that does not end by itself */
	return 0;
}

static void undo_failed(void *ctx, const struct step *step, const struct err *e)
{
	struct pod *p = ctx;

	p->undo_failed = true;
	log_warn("undo failed, it is tried again pod=%s step=%s: %s", p->id, step->name, e->msg);
}

static const struct step keep_steps[] = {
	{ "record", record_act, record_undo },
	{ "folder", folder_act, folder_undo },
};

static const struct step run_steps[] = {
	{ "files", files_act, files_undo },
	{ "monitor", monitor_act, monitor_undo },
	{ "shm", shm_act, shm_undo },
	{ "cgroup", cgroup_act, cgroup_undo },
	{ "born", born_act, born_undo },
	{ "netns", netns_act, netns_undo },
	{ "network", network_act, network_undo },
	{ "watch", watch_act, watch_undo },
	{ "containers", containers_act, containers_undo },
};

const struct steps pod_keep_steps = STEPS(keep_steps, .undo_failed = undo_failed);
const struct steps pod_run_steps = STEPS(run_steps, .undo_failed = undo_failed);
