/* knarrd's configuration: one YAML file and the *.yaml files of the folder beside it
 * (/etc/knarr/knarrd.yaml, /etc/knarr/knarrd.yaml.d/), read in the order of their names; a later file
 * replaces single keys of an earlier one. Every key is in knarrd.yaml(5) and in one table here.
 *
 * An unknown key, a bad value or bad YAML is ERR_INVALID: "FILE:LINE: KEY: what is wrong". */
#ifndef KNARR_DAEMON_CONFIG_H
#define KNARR_DAEMON_CONFIG_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

#define CONFIG_FILE "/etc/knarr/knarrd.yaml"

struct config_handler {               /* a runtime handler: an OCI runtime's command */
	char *name, *path, *root;     /* root NULL: each pod has its own */
	char **args;
};

struct config {
	char *root, *run;
	char *libexec;                /* default: libexec/knarr beside knarrd's own folder, else of the prefix */
	char *cadvisor_socket;        /* NULL: none */
	char *socket, *user_socket;   /* default: knarrd.sock and user.sock in `run` */
	char *netns_dir;
	char **hosts_dirs, **certs_dirs;
	char *registries_conf;
	char **pinned_images;
	struct {
		int64_t level, format; /* enum log_level, enum log_format */
	} log;
	struct {
		char *conf_dir;
		char **bin_dirs;
		int64_t timeout_ns;
		bool default_network, gc;
	} cni;
	struct {
		int64_t driver;        /* enum config_cgroup_driver */
		char *monitor_parent;  /* of knarr-pod's own cgroups; systemd: their scope */
		char *pod_parent;      /* of pods that name none */
	} cgroup;
	struct {
		int64_t parallel_layers;
		int64_t idle_timeout_ns;
	} pull;
	struct {
		int64_t create_ns;     /* RunPodSandbox and CreateContainer, whoever waits */
		int64_t collect_ns;    /* then the result waits for its caller */
		int64_t recover_wait_ns, stop_wait_ns;
		int64_t calls;
	} limits;
	struct {
		char *address;         /* host and port, see stream/stream.h */
		char *cert, *key, *client_ca; /* NULL: none */
		int64_t token_ns, idle_ns;
	} stream;
	char **cdi_dirs;
	struct config_handler *handlers; /* a later file's replaces one of the same name */
	size_t nhandlers;
	char *default_handler;
	struct {
		bool enable, connections;
		char *socket, *plugin_dir, *config_dir;
		int64_t registration_ns, request_ns;
	} nri;
	char *seccomp_dir, *resolv_conf;
	char *criu;                    /* NULL: that on PATH */
	int64_t shm_bytes;
};

enum config_cgroup_driver { CONFIG_CGROUPFS, CONFIG_SYSTEMD };

void config_defaults(struct config *c);
/* One file's text on top of what *c holds already; on failure some of it may have been taken. Texts
 * lie in the arena. Pure. */
int config_read(struct arena *a, const char *file, struct str text, struct config *c, struct err *e);
/* Defaults, the file, its drop-in folder, then what follows from other keys. A missing file is fine
 * unless `required`; a missing folder always. */
enum { CONFIG_REQUIRED = BIT(0) };
int config_load(struct arena *a, const char *file, unsigned flags, struct config *c, struct err *e);
/* A key's path, by its name in the file: for `knarrd --print`. ERR_INVALID: no such key, or one that is no
 * path. */
int config_path(const struct config *c, const char *key, const char **out, struct err *e);

#endif
