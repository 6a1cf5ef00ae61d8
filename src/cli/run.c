/* knarr run: one container in a pod of its own. */
#include "cli/run.h"
#include "cli/session.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/proc.h"
#include "base/thread.h"
#include "knarr.pb-c.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { NAME_MAX_LEN = 128, HOSTNAME_MAX_LEN = 63, MEMORY_LEAST = 4 << 20 };

static bool is_made_of(const char *text, const char *more, size_t max)
{
	size_t n = strlen(text);

	if (!n || n > max || strchr(more, text[0]))
		return false;
	for (; *text; text++)
		if (!(*text >= '0' && *text <= '9') && !(*text >= 'a' && *text <= 'z') &&
		    !(*text >= 'A' && *text <= 'Z') && !strchr(more, *text))
			return false;
	return true;
}

/* It is part of CNI's arguments and of folders' names. */
static bool name_is_good(const char *name)
{
	return is_made_of(name, "_.-", NAME_MAX_LEN);
}

static bool hostname_is_good(const char *name)
{
	return is_made_of(name, ".-", HOSTNAME_MAX_LEN);
}

static int run_parse(struct cli *cli, char *const *argv, struct run_options *o, struct err *e)
{
	const struct opt opts[] = {
		{ OPT_FLAG, 'd', "detach", &o->detach, NULL, "Leave it running and print its ID" },
		{ OPT_FLAG, 0, "rm", &o->auto_remove, NULL, "Remove it once it has exited" },
		{ OPT_STR, 0, "name", &o->name, "NAME", "What to call it" },
		{ OPT_STRV, 'e', "env", &o->env, "KEY=VALUE", "Set a variable; KEY alone takes this shell's" },
		{ OPT_STRV, 'v', "volume", &o->volumes, "SRC:DST[:OPTIONS]", "Mount a host folder or file (ro, rw, rslave, rshared)" },
		{ OPT_STRV, 'p', "publish", &o->ports, "[IP:]HOST:CONTAINER[/udp]", "Publish a port on the host" },
		{ OPT_BYTES, 'm', "memory", &o->memory_bytes, "SIZE", "Memory limit: 512m, 1g" },
		{ OPT_STR, 0, "cpus", &o->cpus, "N", "CPU limit: 1.5" },
		{ OPT_STR, 0, "network", &o->network, "host|none|bridge", "The pod's network (default: bridge, by CNI)" },
		{ OPT_STR, 'w', "workdir", &o->workdir, "PATH", "Working folder inside" },
		{ OPT_STR, 'u', "user", &o->user, "UID|NAME[:GID]", "User inside" },
		{ OPT_STR, 0, "hostname", &o->hostname, "NAME", "Host name inside" },
		{ OPT_STR, 0, "entrypoint", &o->entrypoint, "COMMAND", "Instead of the image's entrypoint" },
		{ OPT_STRV, 'l', "label", &o->labels, "KEY=VALUE", "Add a label" },
		{ OPT_STRV, 0, "cap-add", &o->cap_add, "CAP", "Add a capability" },
		{ OPT_STRV, 0, "cap-drop", &o->cap_drop, "CAP", "Drop a capability" },
		{ OPT_FLAG, 0, "read-only", &o->read_only, NULL, "The root file system is read-only" },
		{ OPT_FLAG, 0, "privileged", &o->privileged, NULL, "All capabilities and devices, no profile" },
		{ OPT_FLAG, 'i', "interactive", &o->interactive, NULL, "Pass stdin on to it" },
		{ OPT_FLAG, 't', "tty", &o->terminal, NULL, "Give it a terminal" },
		{ OPT_STR, 0, "pull", &o->pull, "missing|always|never", "When to fetch the image (default: missing)" },
		{ 0 },
	};
	int rc = cli_options(cli, "run", opts, OPTS_STOP_AT_WORD, argv, &o->words, e);

	if (rc)
		return rc;
	if (!o->words[0])
		return err_set(e, ERR_INVALID, "knarr run: which image? knarr run [OPTION…] IMAGE [COMMAND [ARG…]]");
	if (o->name && !name_is_good(o->name))
		return err_set(e, ERR_INVALID, "--name \"%s\": a name begins with a letter or digit and has only those, "
			       "\"_\", \".\" and \"-\" after it, %d at most", o->name, NAME_MAX_LEN);
	if (o->hostname && !hostname_is_good(o->hostname))
		return err_set(e, ERR_INVALID, "--hostname \"%s\": letters, digits, \"-\" and \".\", %d at most",
			       o->hostname, HOSTNAME_MAX_LEN);
	if (o->workdir && o->workdir[0] != '/')
		return err_set(e, ERR_INVALID, "-w \"%s\": an absolute path is wanted", o->workdir);
	if (o->memory_bytes && o->memory_bytes < MEMORY_LEAST)
		return err_set(e, ERR_INVALID, "-m: with less than 4m nothing starts");
	if (o->network && !streq(o->network, "host") && !streq(o->network, "none") && !streq(o->network, "bridge"))
		return err_set(e, ERR_INVALID, "--network \"%s\": host, none or bridge", o->network);
	if (o->pull && !streq(o->pull, "missing") && !streq(o->pull, "always") && !streq(o->pull, "never"))
		return err_set(e, ERR_INVALID, "--pull \"%s\": missing, always or never", o->pull);
	return 0;
}

/* The image's ID, pulled if it is not here. */
static int image_ready(struct cli *cli, const struct run_options *o, char **id, struct err *e)
{
	Runtime__V1__ImageStatusRequest in = RUNTIME__V1__IMAGE_STATUS_REQUEST__INIT;
	Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
	Runtime__V1__ImageStatusResponse *out;

	spec.image = o->words[0];
	in.image = &spec;
	if (!o->pull || !streq(o->pull, "always")) {
		if (CRI_IMAGE(cli->client, cli->call, ImageStatus, image_status, &in, &out, e) < 0)
			return -1;
		if (out->image) {
			*id = out->image->id;
			return 0;
		}
		if (o->pull && streq(o->pull, "never"))
			return err_set(e, ERR_NOT_FOUND, "image %s is not here, and --pull=never", o->words[0]);
	}
	return image_pull_shown(cli, o->words[0], (const char **)id, e);
}

/* --- the run itself ----------------------------------------------------------------------------------- */

struct wish {
	Runtime__V1__PodSandboxConfig pod;
	Runtime__V1__ContainerConfig container;
};

struct running {
	const char *pod_id, *container_id;
	int signal_fd;
	bool attached;           /* from before its start on, so that nothing of it is missed */
	struct monitor_session session;
};

/* A Ctrl-C while the container is being made ends the calls for it: a plugin may hang for minutes. What comes
 * later is the container's. */
struct interrupt {
	struct call *call;
	int signal_fd, stop_fd;
	pthread_t thread;
};

static void *interrupt_run(void *arg)
{
	struct interrupt *i = arg;
	struct pollfd fds[] = { { .fd = i->signal_fd, .events = POLLIN }, { .fd = i->stop_fd, .events = POLLIN } };
	struct err ignored;

	if (io_poll(NULL, fds, ARRAY_SIZE(fds), -1, &ignored) > 0 && fds[0].revents)
		call_cancel(i->call);
	return NULL;
}

static int interrupt_begin(struct interrupt *i, struct call *c, int signal_fd, struct err *e)
{
	*i = (struct interrupt){ .call = c, .signal_fd = signal_fd, .stop_fd = eventfd(0, EFD_CLOEXEC) };
	if (i->stop_fd < 0)
		return err_sys(e, errno, "eventfd");
	if (thread_start(&i->thread, "interrupt", interrupt_run, i, e) == 0)
		return 0;
	fd_close(&i->stop_fd);
	return -1;
}

static void interrupt_end(struct interrupt *i)
{
	uint64_t one = 1;

	(void)!write(i->stop_fd, &one, sizeof(one)); /* an eventfd takes it */
	(void)pthread_join(i->thread, NULL);
	fd_close(&i->stop_fd);
}

/* On a call of its own, since the command's may be cancelled. */
static int remove_now(struct cli *cli, const char *pod_id, struct err *e)
{
	struct call *before = cli->call;
	auto_call fresh;
	int rc;

	call_begin(&fresh, 0);
	cli->call = &fresh;
	rc = pod_remove(cli, pod_id, e);
	cli->call = before;
	return rc;
}

static int attach(struct cli *cli, const struct wish *w, struct running *r, struct err *e)
{
	Knarr__V1__OpenAttachRequest in = KNARR__V1__OPEN_ATTACH_REQUEST__INIT;

	in.container_id = (char *)r->container_id;
	in.stdin = w->container.stdin;
	in.stdout = in.stderr = in.early = true;
	return session_open_attach(cli, &in, &r->session, e);
}

static int create(struct cli *cli, const struct wish *w, struct running *r, struct err *e)
{
	Runtime__V1__RunPodSandboxRequest pod_in = RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT;
	Runtime__V1__CreateContainerRequest in = RUNTIME__V1__CREATE_CONTAINER_REQUEST__INIT;
	Runtime__V1__RunPodSandboxResponse *pod;
	Runtime__V1__CreateContainerResponse *container;

	pod_in.config = (Runtime__V1__PodSandboxConfig *)&w->pod;
	if (CRI_RUNTIME(cli->client, cli->call, RunPodSandbox, run_pod_sandbox, &pod_in, &pod, e) < 0)
		return -1;
	r->pod_id = pod->pod_sandbox_id;
	in.pod_sandbox_id = pod->pod_sandbox_id;
	in.config = (Runtime__V1__ContainerConfig *)&w->container;
	in.sandbox_config = pod_in.config;
	if (CRI_RUNTIME(cli->client, cli->call, CreateContainer, create_container, &in, &container, e) < 0)
		return -1;
	r->container_id = container->container_id;
	return 0;
}

/* The one call that is not repeated by itself. When its knarrd went away, the container tells whether it
 * came that far. */
static int start(struct cli *cli, const struct running *r, struct err *e)
{
	Runtime__V1__StartContainerRequest in = RUNTIME__V1__START_CONTAINER_REQUEST__INIT;
	Runtime__V1__ContainerStatusRequest status_in = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	Runtime__V1__StartContainerResponse *out;
	Runtime__V1__ContainerStatusResponse *status;
	struct err e2;

	in.container_id = status_in.container_id = (char *)r->container_id;
	if (CRI_RUNTIME(cli->client, cli->call, StartContainer, start_container, &in, &out, e) == 0)
		return 0;
	if (e->kind != ERR_UNAVAILABLE ||
	    CRI_RUNTIME(cli->client, cli->call, ContainerStatus, container_status, &status_in, &status, &e2) < 0)
		return -1;
	if (status->status->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED)
		return 0;
	return CRI_RUNTIME(cli->client, cli->call, StartContainer, start_container, &in, &out, e);
}

/* 0: it runs; else the status to end with, and nothing is left. */
static int launch(struct cli *cli, const struct wish *w, struct running *r, struct err *e)
{
	struct interrupt interrupt;
	struct signalfd_siginfo info;
	struct err ignored;
	int rc, status = CLI_FAILED;

	if (interrupt_begin(&interrupt, cli->call, r->signal_fd, e) < 0)
		return -1;
	rc = create(cli, w, r, e);
	if (rc == 0 && r->attached)
		rc = attach(cli, w, r, e);
	if (rc == 0) {
		rc = start(cli, r, e);
		status = rc < 0 ? cli_start_status(e) : 0;
	}
	if (rc == 0 && r->attached && r->session.out < 0)
		rc = monitor_session_receive(cli->call, &r->session, e);
	interrupt_end(&interrupt);
	if (call_check(cli->call, &ignored) < 0) {
		rc = err_set(e, ERR_CANCELLED, "interrupted before the container ran; nothing of it is left");
		status = CLI_FAILED;
		if (read(r->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
			status = 128 + (int)info.ssi_signo;
	}
	if (rc == 0)
		return 0;
	monitor_session_close(&r->session);
	if (r->pod_id)
		(void)remove_now(cli, r->pod_id, &ignored); /* the first error is the one to tell */
	return cli_fail(e, status);
}

/* Told before a long pull; knarrd itself refuses a name that was taken meanwhile. */
static int name_is_free(struct cli *cli, const char *name, struct err *e)
{
	struct found *all;
	size_t n;

	if (cli_containers(cli, &all, &n, e) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (streq(all[i].name, name))
			return err_set(e, ERR_EXISTS, "a container is already called \"%s\"; knarr rm %s removes it",
				       name, name);
	return 0;
}

/* -d --rm: no daemon needs to run meanwhile, so a `knarr rm` of our own waits for the exit, by pidfd. */
static int remove_later(struct cli *cli, const struct running *r, struct err *e)
{
	char *argv[8];
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc proc;
	size_t n = 0;

	argv[n++] = "knarr";
	if (cli->settings.socket) {
		argv[n++] = "--socket";
		argv[n++] = (char *)cli->settings.socket;
	} else if (cli->settings.config) {
		argv[n++] = "--config";
		argv[n++] = (char *)cli->settings.config;
	}
	argv[n++] = "rm";
	argv[n++] = "--after-exit";
	argv[n++] = (char *)r->container_id;
	argv[n] = NULL;
	spec.file = "/proc/self/exe";
	spec.argv = argv;
	spec.envp = environ;
	spec.flags = PROC_NEW_SESSION;
	if (proc_spawn(&spec, &proc, e) < 0)
		return err_in(e, "--rm");
	fd_close(&proc.pidfd);
	return 0;
}

static int run_attended(struct cli *cli, const struct run_options *o, struct running *r, struct err *e)
{
	struct attended a = { .container_id = r->container_id, .signal_fd = r->signal_fd, .session = &r->session };
	int rc = attend(cli, &a, e);
	struct err removal;

	monitor_session_close(&r->session);
	if (a.detached)
		return o->auto_remove ? remove_later(cli, r, e) : rc;
	if (o->auto_remove && remove_now(cli, r->pod_id, &removal) < 0)
		(void)cli_fail(&removal, 0);
	return rc;
}

int verb_run(struct cli *cli, char *const *argv, struct err *e)
{
	struct run_options o = { 0 };
	struct wish w;
	auto_fd int signal_fd = -1;
	char random[ID_HEX_LEN + 1];
	struct running r = { .session = MONITOR_SESSION_NONE };
	bool named;
	int rc = run_parse(cli, argv, &o, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	named = o.name;
	id_new(random);
	if (!named)
		o.name = arena_strndup(cli->a, random, 12);
	if (run_pod_config(cli->a, &o, &w.pod, e) < 0 || run_container_config(cli->a, &o, &w.container, e) < 0 ||
	    cli_connect(cli, e) < 0 || (named && name_is_free(cli, o.name, e) < 0) ||
	    image_ready(cli, &o, &w.container.image->image, e) < 0)
		return -1;
	r.signal_fd = signal_fd = session_signals(e);
	if (signal_fd < 0)
		return -1;
	r.attached = !o.detach;
	rc = launch(cli, &w, &r, e);
	if (rc)
		return rc;
	if (!o.detach)
		return run_attended(cli, &o, &r, e);
	puts(r.container_id);
	return o.auto_remove ? remove_later(cli, &r, e) : 0;
}
