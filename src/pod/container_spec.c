#include "pod/container_spec_parts.h"

#include "base/fs.h"

#include <signal.h>
#include <strings.h>

static int args_of(struct arena *a, const struct container_spec_input *in, char ***out, struct err *e)
{
	const struct container_config *c = in->config;
	char *const *command = c->command, *const *args = c->args;
	char **all = NULL;

	/* A command of the caller's stands alone; without one, the caller's arguments replace only the
	 * image's arguments. */
	if (!strv_len(command)) {
		command = in->image->entrypoint;
		if (!strv_len(args))
			args = in->image->cmd;
		if (strv_len(command) == 1 && !*command[0])
			command = NULL;
	}
	for (; command && *command; command++)
		all = strv_append(a, all, *command);
	for (; args && *args; args++)
		all = strv_append(a, all, *args);
	if (!all)
		return err_set(e, ERR_INVALID, "no command: neither the container nor its image names one");
	*out = all;
	return 0;
}

/* An environment in order of first appearance; a later value replaces an earlier one in its place. */
struct env {
	struct arena *a;
	char **v;
	size_t n;
};

static void env_set(struct env *env, const char *entry)
{
	size_t name = (size_t)(strchr(entry, '=') - entry) + 1;

	for (size_t i = 0; i < env->n; i++) {
		if (strncmp(env->v[i], entry, name) == 0) {
			env->v[i] = (char *)entry;
			return;
		}
	}
	env->v[env->n++] = (char *)entry;
}

enum { OWN_ENV_MAX = 4 };

/* Where nobody says it, HOME is the user's: runc and crun set it themselves, and programs count on it. */
static void env_set_home(struct env *env, const char *home)
{
	for (size_t i = 0; i < env->n; i++) {
		if (strncmp(env->v[i], "HOME=", 5) == 0)
			return;
	}
	env_set(env, arena_printf(env->a, "HOME=%s", home));
}

static int env_of(struct arena *a, const struct container_spec_input *in, const char *home, char ***out,
		  struct err *e)
{
	const struct config_env *wish = in->config->envs.p;
	size_t most = OWN_ENV_MAX + strv_len(in->image->env) + in->config->envs.count;
	struct env env = { .a = a, .v = arena_newn0(a, char *, most + 1) };
	const char *hostname = str_is_empty(in->pod->hostname) ? in->facts->hostname : in->pod->hostname;

	env_set(&env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	if (in->config->tty)
		env_set(&env, "TERM=xterm");
	env_set(&env, arena_printf(a, "HOSTNAME=%s", hostname ? hostname : ""));
	for (char **entry = in->image->env; entry && *entry; entry++) {
		if (strchr(*entry, '=') && **entry != '=')
			env_set(&env, *entry);
	}
	for (size_t i = 0; i < in->config->envs.count; i++) {
		if (str_is_empty(wish[i].key) || strchr(wish[i].key, '='))
			return err_set(e, ERR_INVALID, "envs[%zu].key \"%s\" is no name", i,
				       wish[i].key ? wish[i].key : "");
		env_set(&env, arena_printf(a, "%s=%s", wish[i].key, wish[i].value ? wish[i].value : ""));
	}
	env_set_home(&env, home);
	*out = env.v;
	return 0;
}

static char *cwd_of(struct arena *a, const struct container_spec_input *in)
{
	const char *dir = in->config->working_dir;

	if (str_is_empty(dir))
		dir = in->image->workdir;
	if (str_is_empty(dir))
		return (char *)"/";
	return path_clean(a, dir[0] == '/' ? dir : arena_printf(a, "/%s", dir));
}

static int process(struct arena *a, const struct container_spec_input *in, struct oci_process *p, struct err *e)
{
	const char *home;

	if (args_of(a, in, &p->args, e) < 0 || spec_user(a, in, &p->user, &home, e) < 0 ||
	    env_of(a, in, home, &p->env, e) < 0 || spec_capabilities(a, in, &p->capabilities, e) < 0)
		return -1;
	p->terminal = in->config->tty;
	p->cwd = cwd_of(a, in);
	p->rlimits = in->facts->rlimits;
	if (in->config->resources) {
		p->oom_score_adj = arena_new0(a, int32_t);
		*p->oom_score_adj = (int32_t)in->config->resources->oom_score_adj;
	}
	return 0;
}

struct namespaces {
	struct oci_namespace *p;
	size_t n;
};
enum { NAMESPACES_MAX = 9 };

static void namespace_new(struct namespaces *set, const char *type)
{
	set->p[set->n++] = (struct oci_namespace){ .type = (char *)type };
}

static void namespace_of(struct arena *a, struct namespaces *set, const char *type, pid_t pid, const char *file)
{
	if (pid > 0)
		set->p[set->n++] = (struct oci_namespace){
			.type = (char *)type, .path = arena_printf(a, "/proc/%d/ns/%s", (int)pid, file) };
}

/* The pod's, with its maps. */
static bool userns_of(struct arena *a, const struct container_spec_input *in, struct oci_linux *l)
{
	const struct config_userns *u = config_userns(&in->pod->namespaces);

	if (!u)
		return false;
	l->uid_mappings = spec_idmaps(a, u->uids);
	l->gid_mappings = spec_idmaps(a, u->gids);
	return true;
}

static int namespaces(struct arena *a, const struct container_spec_input *in, struct oci_linux *l, struct err *e)
{
	struct namespaces set = { .p = arena_newn0(a, struct oci_namespace, NAMESPACES_MAX) };
	enum config_namespace pid = in->config->namespaces.pid;

	namespace_new(&set, "mount");
	if (userns_of(a, in, l))
		set.p[set.n++] = (struct oci_namespace){
			.type = (char *)"user",
			.path = arena_printf(a, "/proc/%d/fd/%d", (int)in->monitor_pid, in->userns_fd_number) };
	/* Of a pod in the host's network they are the host's, by way of knarr-pod's own. */
	namespace_of(a, &set, "network", in->monitor_pid, "net");
	namespace_of(a, &set, "ipc", in->monitor_pid, "ipc");
	namespace_of(a, &set, "uts", in->monitor_pid, "uts");
	if (pid == CONFIG_NS_POD && in->pod->namespaces.pid == CONFIG_NS_NODE)
		pid = CONFIG_NS_NODE;
	if (pid == CONFIG_NS_POD && in->init_pid > 0)
		namespace_of(a, &set, "pid", in->init_pid, "pid");
	/* Also where the pod shares none: never by accident the host's. */
	else if (pid == CONFIG_NS_CONTAINER || pid == CONFIG_NS_POD)
		namespace_new(&set, "pid");
	else if (pid == CONFIG_NS_TARGET && in->target_pid > 0)
		namespace_of(a, &set, "pid", in->target_pid, "pid");
	else if (pid == CONFIG_NS_TARGET)
		return err_set(e, ERR_STATE, "namespace_options.target_id: container %s does not run",
			       in->config->namespaces.target_id ? in->config->namespaces.target_id : "\"\"");
	/* It hides the host's part of /sys/fs/cgroup. On v1 programs expect to find their path there, and
	 * privileged ones on v2 do. */
	if (in->facts->cgroup_v2 && !config_is_privileged(in))
		namespace_new(&set, "cgroup");
	l->namespaces = (struct json_vec){ set.p, set.n };
	return 0;
}

/* As containerd writes them: other runtimes and hooks read them. */
static struct json_map annotations(struct arena *a, const struct container_spec_input *in)
{
	const struct json_pair pairs[] = {
		{ (char *)"io.kubernetes.cri.container-name", in->config->name },
		{ (char *)"io.kubernetes.cri.container-type", (char *)"container" },
		{ (char *)"io.kubernetes.cri.image-name", in->config->image_user_specified
			? in->config->image_user_specified : in->config->image },
		{ (char *)"io.kubernetes.cri.sandbox-id", (char *)in->pod_id },
		{ (char *)"io.kubernetes.cri.sandbox-name", in->pod->name },
		{ (char *)"io.kubernetes.cri.sandbox-namespace", in->pod->namespace_ },
		{ (char *)"io.kubernetes.cri.sandbox-uid", in->pod->uid },
	};
	struct json_pair *kept = arena_newn0(a, struct json_pair, ARRAY_SIZE(pairs));
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		if (pairs[i].value)
			kept[n++] = pairs[i];
	}
	return (struct json_map){ kept, n };
}

static const struct {
	const char *name;
	int number;
} signals[] = {
	{ "HUP", SIGHUP }, { "INT", SIGINT }, { "QUIT", SIGQUIT }, { "ILL", SIGILL }, { "TRAP", SIGTRAP },
	{ "ABRT", SIGABRT }, { "IOT", SIGIOT }, { "BUS", SIGBUS }, { "FPE", SIGFPE }, { "KILL", SIGKILL },
	{ "USR1", SIGUSR1 }, { "SEGV", SIGSEGV }, { "USR2", SIGUSR2 }, { "PIPE", SIGPIPE },
	{ "ALRM", SIGALRM }, { "TERM", SIGTERM }, { "STKFLT", SIGSTKFLT }, { "CHLD", SIGCHLD },
	{ "CLD", SIGCHLD }, { "CONT", SIGCONT }, { "STOP", SIGSTOP }, { "TSTP", SIGTSTP },
	{ "TTIN", SIGTTIN }, { "TTOU", SIGTTOU }, { "URG", SIGURG }, { "XCPU", SIGXCPU }, { "XFSZ", SIGXFSZ },
	{ "VTALRM", SIGVTALRM }, { "PROF", SIGPROF }, { "WINCH", SIGWINCH }, { "IO", SIGIO },
	{ "POLL", SIGPOLL }, { "PWR", SIGPWR }, { "SYS", SIGSYS },
};

/* The kernel's range, of which the C library takes two for itself: images count from 34. */
enum { RTMIN = 34, RTMAX = 64 };

/* RTMIN, RTMIN+3, RTMAX-1, RTMAX. */
static int realtime_signal(const char *text)
{
	struct str s = str_of(text), offset = { s.p + 5, s.len >= 5 ? s.len - 5 : 0 };
	bool up = strncasecmp(text, "RTMIN", 5) == 0;
	uint64_t n = 0;
	struct err ignored;

	if (!up && strncasecmp(text, "RTMAX", 5) != 0)
		return 0;
	if (offset.len > 0) {
		if (offset.p[0] != (up ? '+' : '-'))
			return 0;
		if (str_to_u64((struct str){ offset.p + 1, offset.len - 1 }, &n, &ignored) < 0 || n > RTMAX - RTMIN)
			return 0;
	}
	return up ? RTMIN + (int)n : RTMAX - (int)n;
}

static int signal_of_text(const char *text)
{
	uint64_t n;
	struct err ignored;

	if (str_to_u64(str_of(text), &n, &ignored) == 0)
		return n >= 1 && n <= RTMAX ? (int)n : 0;
	if (strncasecmp(text, "SIG", 3) == 0)
		text += 3;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		if (strcasecmp(signals[i].name, text) == 0)
			return signals[i].number;
	}
	return realtime_signal(text);
}

static int stop_signal(const struct container_spec_input *in)
{
	int found = in->config->stop_signal;

	if (!found && !str_is_empty(in->image->stop_signal))
		found = signal_of_text(in->image->stop_signal);
	return found ? found : SIGTERM;
}

static bool same_maps(const struct json_vec *a, const struct json_vec *b)
{
	return a->count == b->count && memcmp(a->p, b->p, a->count * sizeof(struct config_id_map)) == 0;
}

static int check(const struct container_spec_input *in, struct err *e)
{
	const struct config_userns *pods = config_userns(&in->pod->namespaces),
				   *own = config_userns(&in->config->namespaces);

	if (in->config->privileged && !in->pod->privileged)
		return err_set(e, ERR_INVALID, "privileged: the container's pod is not privileged");
	/* One that says nothing is in the pod's. */
	if (in->config->namespaces.userns && (!own != !pods || (own && !(same_maps(&own->uids, &pods->uids) &&
									 same_maps(&own->gids, &pods->gids)))))
		return err_set(e, ERR_INVALID, "namespace_options.userns_options: the container's are not its pod's");
	if (pods && (in->config->namespaces.pid == CONFIG_NS_NODE || in->config->namespaces.ipc == CONFIG_NS_NODE))
		return err_set(e, ERR_INVALID, "namespace_options: a user namespace with the node's PID or IPC namespace");
	return 0;
}

int container_spec_build(struct arena *a, const struct container_spec_input *in,
			 struct container_spec_result *out, struct err *e)
{
	struct oci_config *c = arena_new0(a, struct oci_config);
	size_t *mount_at;

	c->process = arena_new0(a, struct oci_process);
	c->root = arena_new0(a, struct oci_root);
	c->on_linux = arena_new0(a, struct oci_linux);
	*c->root = (struct oci_root){ .path = (char *)"rootfs", .readonly = in->config->readonly_rootfs };
	c->annotations = annotations(a, in);
	c->on_linux->cgroups_path = (char *)in->cgroup_path;
	if (check(in, e) < 0 || process(a, in, c->process, e) < 0 || namespaces(a, in, c->on_linux, e) < 0 ||
	    spec_mounts(a, in, c, &mount_at, e) < 0 || spec_devices_and_limits(a, in, c->on_linux, e) < 0 ||
	    spec_security(a, in, c, e) < 0)
		return -1;
	spec_cdi(a, in, c);
	c->oci_version = (char *)oci_config_lowest_version(c);
	if (oci_config_validate(c, e) < 0)
		return -1;
	*out = (struct container_spec_result){ .config = c, .stop_signal = stop_signal(in), .mount_at = mount_at };
	return 0;
}
