/* knarrd: one per node, between kubelet (or the knarr command) and everything that runs. It holds no
 * container: it may be killed, stopped or replaced at any time, and pods go on. */
#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/steps.h"
#include "base/thread.h"
#include "daemon/cadvisor.h"
#include "daemon/config.h"
#include "daemon/notify.h"
#include "daemon/rooms.h"
#include "daemon/server.h"
#include "daemon/state_lock.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	KEPT_CHUNKS = 8,
	HAND_OVER_S = 30,
	PRIVATE_IDLE_S = 3,
	STATUS_FAILED = 1,
	STATUS_ROOT_TAKEN = 2, /* knarr then waits for the other one's socket */
	MALLOC_THRESHOLD = 128 * 1024,
};

struct options {
	const char *config, *print;
	bool check, private_, version, help;
};

struct daemon {
	struct arena arena; /* the configuration */
	struct config config;
	struct options options;
	int lock_fd;
	bool root_is_taken; /* by another knarrd */
	struct server *server;
	struct cadvisor *cadvisor; /* NULL: none is wished */
	struct rooms rooms;
	struct call opening; /* cancelled by the end */
	pthread_t opener;
};

/* A large answer is given back to the kernel once sent; one heap, since threads come and go. */
static void keep_memory_small(void)
{
	(void)mallopt(M_ARENA_MAX, 1);
	(void)mallopt(M_MMAP_THRESHOLD, MALLOC_THRESHOLD);
	(void)mallopt(M_TRIM_THRESHOLD, MALLOC_THRESHOLD);
	arena_keep_chunks(KEPT_CHUNKS);
}

static int answer_cadvisor(void *cri, struct arena *a, struct str path, struct buf *json, struct err *e)
{
	return crio_answer(cri, a, path, json, e);
}

/* Recovery may take its time; the server answers meanwhile. */
static void *open_rooms(void *arg)
{
	struct daemon *d = arg;
	int64_t began = clock_mono_ns();
	struct err e;

	if (rooms_open(&d->rooms, &d->opening, &d->config, &e) < 0) {
		server_end(d->server, &e);
		return NULL;
	}
	if (d->cadvisor && cadvisor_start(d->cadvisor, answer_cadvisor, &d->rooms.cri, &e) < 0) {
		server_end(d->server, &e);
		return NULL;
	}
	log_info("ready took_ms=%lld", (long long)((clock_mono_ns() - began) / NS_PER_MS));
	notify("STATUS=Ready");
	server_ready(d->server, &d->rooms.cri);
	return NULL;
}

static int make_folders(const struct config *c, struct err *e)
{
	auto_arena a = { 0 };
	const char *const folders[] = { c->root, c->run, path_join(&a, c->socket, ".."),
					path_join(&a, c->user_socket, ".."),
					c->cadvisor_socket ? path_join(&a, c->cadvisor_socket, "..") : c->run };

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		if (fs_mkdirs(AT_FDCWD, path_clean(&a, folders[i]), 0711, e) < 0)
			return -1;
	return 0;
}

static int take_lock(struct daemon *d, struct err *e)
{
	auto_call c;

	call_begin(&c, clock_mono_ns() + HAND_OVER_S * NS_PER_S);
	return state_lock(&c, d->config.root, d->options.private_ ? STATE_LOCK_PRIVATE : 0, &d->lock_fd, e);
}

/* A private knarrd serves the user only: kubelet's socket is the service's. */
static int listen_for_calls(struct daemon *d, struct err *e)
{
	static const struct rpc_method *const methods[] = { cri_methods, cri_knarr_methods, NULL };
	const struct config *c = &d->config;
	const struct server_socket sockets[] = { { c->user_socket, RPC_OWNER_USER },
						 { c->socket, RPC_OWNER_KUBELET } };
	const struct server_settings settings = {
		.sockets = sockets,
		.nsockets = d->options.private_ ? 1 : 2,
		.methods = methods,
		.ready_wait_ns = c->limits.recover_wait_ns,
		.stop_wait_ns = c->limits.stop_wait_ns,
		.idle_end_ns = d->options.private_ ? PRIVATE_IDLE_S * NS_PER_S : 0,
		.workers = (unsigned)c->limits.calls,
	};

	if (c->cadvisor_socket && !d->options.private_ && cadvisor_open(c->cadvisor_socket, &d->cadvisor, e) < 0)
		return -1;
	return server_new(&settings, &d->server, e);
}

static int serve(struct daemon *d, struct err *e)
{
	int rc;

	call_begin(&d->opening, 0);
	rc = thread_start(&d->opener, "knarrd-open", open_rooms, d, e);
	if (rc == 0) {
		log_info("knarrd " KNARR_VERSION " listens root=%s socket=%s user_socket=%s", d->config.root,
			 d->options.private_ ? "none" : d->config.socket, d->config.user_socket);
		notify("READY=1\nSTATUS=Recovering pods");
		rc = server_run(d->server, e);
		notify("STOPPING=1");
		call_cancel(&d->opening);
		(void)pthread_join(d->opener, NULL);
		cadvisor_close(d->cadvisor);
	}
	call_end(&d->opening);
	return rc;
}

static int run(struct daemon *d, struct err *e)
{
	int rc;

	if (geteuid() != 0)
		return err_set(e, ERR_DENIED, "knarrd needs root");
	if (make_folders(&d->config, e) < 0)
		return -1;
	if (take_lock(d, e) < 0) {
		d->root_is_taken = e->kind == ERR_UNAVAILABLE;
		return -1;
	}
	if (listen_for_calls(d, e) < 0)
		return -1;
	rc = serve(d, e);
	if (!server_is_quiet(d->server)) {
		log_warn("calls hang, even cancelled; knarrd ends without them");
		_exit(rc < 0);
	}
	server_free(d->server);
	rooms_close(&d->rooms);
	return rc;
}

static int configure(struct daemon *d, struct err *e)
{
	const char *file = d->options.config ? d->options.config : CONFIG_FILE;
	struct stream_settings streaming;
	enum log_level least;

	if (config_load(&d->arena, file, d->options.config ? CONFIG_REQUIRED : 0, &d->config, e) < 0)
		return -1;
	streaming = rooms_stream_settings(&d->config);
	if (stream_settings_check(&streaming, e) < 0)
		return err_in(e, "%s", file);
	/* Plugins belong to the node's one service. */
	if (d->options.private_)
		d->config.nri.enable = false;
	(void)malloc_trim(0); /* what the YAML reader left */
	least = (enum log_level)d->config.log.level;
	/* A private knarrd shares its stderr with the command that started it. */
	if (d->options.private_ && least == LOG_INFO)
		least = LOG_WARN;
	log_configure(least, (enum log_format)d->config.log.format, STDERR_FILENO);
	return 0;
}

static int print_help(struct arena *a, const struct opt *opts)
{
	(void)printf("usage: knarrd [OPTION…]\n\nThe daemon of a Kubernetes node's containers; see knarrd(8) and "
		     "knarrd.yaml(5).\n\n%s", opts_help(a, opts));
	return 0;
}

/* What knarr's own knarr-pull is started with, as one JSON object. */
static int print_registries(const struct config *c, struct err *e)
{
	static const struct json_field fields[] = {
		{ "libexec", JSON_STR, offsetof(struct config, libexec) },
		{ "registriesConf", JSON_STR, offsetof(struct config, registries_conf) },
		{ "hostsDirs", JSON_STRV, offsetof(struct config, hosts_dirs) },
		{ "certsDirs", JSON_STRV, offsetof(struct config, certs_dirs) },
		{ "parallel", JSON_I64, offsetof(struct config, pull.parallel_layers) },
		{ 0 },
	};
	auto_buf b = BUF(1 << 20);

	if (json_write(&b, fields, c, e) < 0)
		return -1;
	(void)printf("%.*s,\"idleMs\":%lld}\n", (int)b.len - 1, b.p, (long long)(c->pull.idle_timeout_ns / NS_PER_MS));
	return 0;
}

/* For knarr, which has no YAML reader of its own. */
static int print_path(const struct config *c, const char *key, struct err *e)
{
	const char *path;

	if (streq(key, "registries"))
		return print_registries(c, e);
	if (config_path(c, key, &path, e) < 0)
		return err_in(e, "--print");
	(void)printf("%s\n", path);
	return 0;
}

static int start(struct daemon *d, char **argv, struct err *e)
{
	struct options *o = &d->options;
	const struct opt opts[] = {
		{ OPT_STR, 'c', "config", &o->config, "FILE", "read this file instead of " CONFIG_FILE },
		{ OPT_FLAG, 0, "check-config", &o->check, NULL, "read the configuration as a start would, and end" },
		{ OPT_STR, 0, "print", &o->print, "KEY", "print a path of the configuration, such as user_socket, and end" },
		{ OPT_FLAG, 0, "private", &o->private_, NULL,
		  "serve only the user's socket, end when idle (the knarr command starts it so)" },
		{ OPT_FLAG, 0, "version", &o->version, NULL, "print the version" },
		{ OPT_FLAG, 'h', "help", &o->help, NULL, "print this" },
		{ 0 },
	};
	char **words;

	if (opts_parse(&d->arena, opts, 0, argv, &words, e) < 0)
		return -1;
	if (words[0])
		return err_set(e, ERR_INVALID, "knarrd takes no words: %s (see knarrd --help)", words[0]);
	if (o->help)
		return print_help(&d->arena, opts);
	if (o->version) {
		(void)printf("knarrd %s\n", KNARR_VERSION);
		return 0;
	}
	if (configure(d, e) < 0)
		return -1;
	if (o->check) {
		(void)printf("%s: ok\n", o->config ? o->config : CONFIG_FILE);
		return 0;
	}
	if (o->print)
		return print_path(&d->config, o->print, e);
	return run(d, e);
}

int main(UNUSED int argc, char **argv)
{
	struct daemon d = { .lock_fd = -1 };
	struct err e;
	int rc;

	keep_memory_small();
	log_configure(LOG_INFO, LOG_TEXT, STDERR_FILENO);
	(void)signal(SIGPIPE, SIG_IGN); /* a helper that ends is seen by its exit */
	rc = steps_fault_set(getenv("KNARR_FAULT"), &e); /* for tests, see base/steps.h */
	if (rc == 0)
		rc = start(&d, argv, &e);
	if (rc < 0)
		log_error("%s", e.msg);
	arena_free(&d.arena);
	fd_close(&d.lock_fd);
	if (rc == 0)
		return 0;
	return d.root_is_taken ? STATUS_ROOT_TAKEN : STATUS_FAILED;
}
