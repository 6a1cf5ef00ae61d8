/* How a plugin comes: by the socket or from the folder; registration, configuration, synchronisation. */
#include "nri/parts.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { CONFIG_MAX = 1 << 20, PLUGINS_MAX = 64, PLUGIN_FD = 3 };
enum { VALID_EVENTS = (1 << 14) - 1 };
/* Of one Synchronize: well below what ttrpc takes. */
enum { SYNC_PART_MAX = 2 << 20 };

#define NRI_VERSION "v0.12.5"

static int wait_registered(struct plugin *p, struct err *e)
{
	int64_t until = clock_mono_ns() + p->nri->settings.registration_ns;
	LOCKED(&p->lock);

	while (!p->registered && !p->closed && clock_mono_ns() < until)
		(void)cond_wait_until(NULL, &p->changed, &p->lock, until, e);
	return p->registered ? 0 : err_set(e, ERR_TIMEOUT, "it did not register in time");
}

static int configure(struct plugin *p, struct arena *a, struct err *e)
{
	NRI_T(ConfigureRequest) *r = NRI_NEW(a, configure_request);
	const struct plugin_question q = { "Configure", &r->base, &NRI_D(configure_response) };
	ProtobufCMessage *m;
	uint32_t events;
	int rc;

	r->config = p->config ? p->config : (char *)"";
	r->runtime_name = (char *)"knarr";
	r->runtime_version = (char *)KNARR_VERSION;
	r->registration_timeout = p->nri->settings.registration_ns / NS_PER_MS;
	r->request_timeout = p->nri->settings.request_ns / NS_PER_MS;
	r->nri_version = (char *)NRI_VERSION;
	rc = plugin_ask(p, a, &q, &m, e);
	if (rc != 0)
		return rc;
	events = (uint32_t)((NRI_T(ConfigureResponse) *)m)->events;
	if (events & ~(uint32_t)VALID_EVENTS)
		return err_set(e, ERR_INVALID, "it subscribes to unknown events: 0x%x", events & ~(uint32_t)VALID_EVENTS);
	p->events = events ? events : VALID_EVENTS;
	if (((NRI_T(ConfigureResponse) *)m)->failure_policy) {
		p->fail_request = ((NRI_T(ConfigureResponse) *)m)->failure_policy->fail_request;
		p->keep_connected = ((NRI_T(ConfigureResponse) *)m)->failure_policy->keep_connected;
	}
	return 0;
}

/* --- synchronisation ----------------------------------------------------------------------------------------- */

static bool before(const struct plugin *a, const struct plugin *b)
{
	return strcmp(a->idx, b->idx) < 0;
}

/* From this moment on it hears of everything, and what it is told first is all that was before. Its turn is taken:
 * who asks it waits until it is synchronised. */
static int enter(struct plugin *p, struct arena *a, struct pod_views *pods, struct container_views *containers)
{
	struct nri *n = p->nri;
	LOCKED(&n->lock);
	struct list *at = &n->plugins;

	if (n->closing || plugin_is_closed(p))
		return -1;
	list_for_each(other, &n->plugins, struct plugin, in_plugins) {
		if (before(p, other)) {
			at = &other->in_plugins;
			break;
		}
	}
	list_add_before(at, &p->in_plugins);
	(void)plugin_ref(p);
	p->heard = true;
	n->active++;
	pods_snapshot(n->pods, a, pods, containers);
	return 0;
}

struct sync {
	size_t npods, ncontainers;
	NRI_T(PodSandbox) **pods;
	NRI_T(Container) **containers;
};

/* As many as a part takes, at least one. */
static size_t part_of(ProtobufCMessage *const *v, size_t n, size_t *bytes)
{
	size_t i = 0;

	for (; i < n; i++) {
		size_t size = protobuf_c_message_get_packed_size(v[i]) + 16;

		if (*bytes + size > SYNC_PART_MAX && *bytes > 0)
			break;
		*bytes += size;
	}
	return i;
}

static int send_part(struct plugin *p, struct arena *a, struct sync *s, NRI_T(SynchronizeResponse) **out, struct err *e)
{
	NRI_T(SynchronizeRequest) *r = NRI_NEW(a, synchronize_request);
	const struct plugin_question q = { "Synchronize", &r->base, &NRI_D(synchronize_response) };
	size_t bytes = 0;
	int rc;

	r->pods = s->pods;
	r->n_pods = part_of((ProtobufCMessage **)s->pods, s->npods, &bytes);
	r->containers = s->containers;
	r->n_containers = r->n_pods == s->npods ? part_of((ProtobufCMessage **)s->containers, s->ncontainers, &bytes) : 0;
	s->pods += r->n_pods;
	s->npods -= r->n_pods;
	s->containers += r->n_containers;
	s->ncontainers -= r->n_containers;
	r->more = s->npods + s->ncontainers > 0;
	rc = plugin_ask(p, a, &q, (ProtobufCMessage **)out, e);
	if (rc == 0 && r->more && (!(*out)->more || (*out)->n_update > 0))
		return err_set(e, ERR_INVALID, "it cannot be synchronised in parts (there are too many pods for one)");
	return rc;
}

static int synchronize(struct plugin *p, struct arena *a, struct err *e)
{
	auto_pod_views pods = { 0 };
	auto_container_views containers = { 0 };
	NRI_T(SynchronizeResponse) *answer = NULL;
	struct sync s = { 0 };
	int rc;

	if (enter(p, a, &pods, &containers) < 0)
		return 1;
	s = (struct sync){ pods.n, containers.n, NRI_NEWV(a, pods.n), NRI_NEWV(a, containers.n) };
	for (size_t i = 0; i < pods.n; i++)
		s.pods[i] = describe_pod(a, &pods.v[i]);
	for (size_t i = 0; i < containers.n; i++)
		s.containers[i] = describe_existing(a, &containers.v[i]);
	do
		rc = send_part(p, a, &s, &answer, e);
	while (rc == 0 && s.npods + s.ncontainers > 0);
	if (rc == 0 && answer->n_update > 0) {
		const struct updates wished = { answer->n_update, answer->update };
		struct err first;

		if (nri_update_others(p, a, &wished, NULL, &first) < 0)
			log_warn("an update of an NRI plugin's cannot be made plugin=%s: %s", p->title, first.msg);
	}
	return rc;
}

void plugin_live(struct plugin *p)
{
	auto_arena a = { 0 };
	struct err e = { 0 };
	int rc;

	plugin_turn_take(p);
	rc = wait_registered(p, &e);
	if (rc == 0)
		rc = configure(p, &a, &e);
	if (rc == 0)
		rc = synchronize(p, &a, &e);
	if (rc < 0)
		plugin_close(p, e.msg);
	plugin_turn_give(p);
	if (rc == 0)
		log_info("NRI plugin takes part plugin=%s", p->title);
	LOCKED(&p->nri->lock);
	p->lived = true;
	cond_broadcast(&p->nri->changed);
}

/* --- from the folder ------------------------------------------------------------------------------------------- */

static int read_config(struct nri *n, struct arena *a, const char *idx, const char *name, struct str *out, struct err *e)
{
	const char *const names[] = { arena_printf(a, "%s/%s-%s.conf", n->settings.config_dir, idx, name),
				      arena_printf(a, "%s/%s.conf", n->settings.config_dir, name) };

	*out = (struct str){ "", 0 };
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (fs_read_file(a, AT_FDCWD, names[i], CONFIG_MAX, out, e) == 0)
			return 0;
		if (e->kind != ERR_NOT_FOUND)
			return -1;
	}
	return 0;
}

static int launch(struct nri *n, struct arena *a, const char *file, struct err *e)
{
	const char *idx = arena_strndup(a, file, 2), *name = file + 3;
	struct proc_spec spec = PROC_SPEC_INIT;
	struct plugin_start s = { .idx = idx, .name = name };
	const char *path = path_join(a, n->settings.plugin_dir, file);
	struct str config;
	int pair[2];

	if (read_config(n, a, idx, name, &config, e) < 0)
		return -1;
	s.config = config.p;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, errno, "socketpair");
	spec.file = path;
	spec.argv = (char *[]){ (char *)path, NULL };
	spec.envp = (char *[]){ arena_printf(a, "NRI_PLUGIN_NAME=%s", name), arena_printf(a, "NRI_PLUGIN_IDX=%s", idx),
				arena_printf(a, "NRI_PLUGIN_SOCKET=%d", PLUGIN_FD), NULL };
	spec.fds[0].from = pair[1];
	spec.fds[0].to = PLUGIN_FD;
	spec.nfds = 1;
	spec.std_err = STDERR_FILENO; /* its log is in ours */
	if (proc_spawn(&spec, &s.proc, e) < 0) {
		(void)close(pair[0]);
		(void)close(pair[1]);
		return -1;
	}
	(void)close(pair[1]);
	s.fd = pair[0];
	return plugin_start(n, &s, e);
}

static bool is_plugin(const struct nri *n, struct arena *a, const char *name)
{
	struct stat st;

	return strlen(name) > 3 && name[0] >= '0' && name[0] <= '9' && name[1] >= '0' && name[1] <= '9' && name[2] == '-' &&
	       stat(path_join(a, n->settings.plugin_dir, name), &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111);
}

static void wait_lived(struct nri *n)
{
	LOCKED(&n->lock);
	struct err e;

	for (;;) {
		bool any = false;

		list_for_each(p, &n->all, struct plugin, in_all)
			any = any || !p->lived;
		if (!any)
			return;
		(void)cond_wait(NULL, &n->changed, &n->lock, &e);
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int nri_launch(struct nri *n, struct err *e)
{
	auto_arena a = { 0 };
	DIR *d = opendir(n->settings.plugin_dir);
	char **names = arena_newn0(&a, char *, 1);
	struct dirent *entry;

	if (!d)
		return errno == ENOENT ? 0 : err_sys(e, errno, "NRI plugins: %s", n->settings.plugin_dir);
	while ((entry = readdir(d)))
		if (entry->d_name[0] != '.' && strv_len(names) < PLUGINS_MAX)
			names = strv_append(&a, names, arena_strdup(&a, entry->d_name));
	(void)closedir(d);
	qsort(names, strv_len(names), sizeof(*names), by_name);
	for (size_t i = 0; names[i]; i++) {
		struct err failed;

		if (!is_plugin(n, &a, names[i]))
			log_warn("no NRI plugin: a program called NN-NAME is wanted file=%s/%s", n->settings.plugin_dir, names[i]);
		else if (launch(n, &a, names[i], &failed) < 0)
			log_error("NRI plugin does not start plugin=%s: %s", names[i], failed.msg);
	}
	wait_lived(n);
	return 0;
}

/* --- by the socket ------------------------------------------------------------------------------------------------ */

static void accept_one(struct nri *n)
{
	struct plugin_start s = { .fd = accept4(n->listen_fd, NULL, NULL, SOCK_CLOEXEC), .proc = { 0, -1 } };
	unsigned running;
	struct err e;

	if (s.fd < 0) {
		if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED) {
			log_error("NRI connections cannot be taken: %s", err_errno_text(errno));
			(void)poll(NULL, 0, 1000);
		}
		return;
	}
	lock_acquire(&n->lock);
	running = n->running;
	lock_release(&n->lock);
	if (running >= 2 * PLUGINS_MAX) {
		log_warn("an NRI plugin is refused: %d are connected", PLUGINS_MAX);
		(void)close(s.fd);
		return;
	}
	if (plugin_start(n, &s, &e) < 0)
		log_error("NRI plugin: %s", e.msg);
}

static void *listen_thread(void *arg)
{
	struct nri *n = arg;

	for (;;) {
		struct pollfd fds[] = { { .fd = n->listen_fd, .events = POLLIN }, { .fd = n->wake_fd, .events = POLLIN } };

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			BUG("poll failed");
		if (fds[1].revents)
			return NULL;
		if (fds[0].revents)
			accept_one(n);
	}
}

int nri_listen(struct nri *n, struct err *e)
{
	const char *path = n->settings.socket;
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	auto_arena a = { 0 };

	if (!path)
		return 0;
	if (strlen(path) >= sizeof(at.sun_path))
		return err_set(e, ERR_INVALID, "NRI socket %s: the path is too long", path);
	memcpy(at.sun_path, path, strlen(path) + 1);
	if (fs_mkdirs(AT_FDCWD, path_clean(&a, path_join(&a, path, "..")), 0700, e) < 0 ||
	    fs_remove_file(AT_FDCWD, path, e) < 0)
		return err_in(e, "NRI socket");
	n->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	n->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (n->listen_fd < 0 || n->wake_fd < 0)
		return err_sys(e, errno, "NRI socket %s", path);
	if (fchmod(n->listen_fd, 0600) < 0 || bind(n->listen_fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    listen(n->listen_fd, 16) < 0)
		return err_sys(e, errno, "NRI socket %s", path);
	if (thread_start(&n->listener, "nri-listen", listen_thread, n, e) < 0)
		return -1;
	n->listener_runs = true;
	return 0;
}
