/* CRIU's RPC (https://criu.org/RPC, its images/rpc.proto): the requests that a runtime sends to `criu swrk`, and
 * the responses. A message is one packet of a SOCK_SEQPACKET pair. Only the words that are used here are known;
 * others in a response are skipped.
 *
 * Pure: bytes in, structs out. Texts of a response lie in the arena. */
#ifndef KNARR_WIRE_CRIU_RPC_H
#define KNARR_WIRE_CRIU_RPC_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

enum criu_type {                /* criu_req_type */
	CRIU_DUMP = 1, CRIU_RESTORE = 2, CRIU_PRE_DUMP = 4, CRIU_NOTIFY = 6, CRIU_FEATURE_CHECK = 9, CRIU_VERSION = 10,
};
enum criu_cgroups {             /* criu_cg_mode */
	CRIU_CGROUPS_IGNORE = 0, CRIU_CGROUPS_SOFT = 3, CRIU_CGROUPS_FULL = 4, CRIU_CGROUPS_STRICT = 5,
	CRIU_CGROUPS_DEFAULT = 6,
};
enum { CRIU_FEATURE_MEM_TRACK = BIT(0), CRIU_FEATURE_LAZY_PAGES = BIT(1) };
enum { CRIU_PACKET_MAX = 1 << 20 };

struct criu_pair {
	char *key, *value;
};
struct criu_pairs {
	struct criu_pair *p;
	size_t count;
};
struct criu_fd {
	char *key;
	int32_t fd;             /* in criu's own process */
};

/* criu_opts. NULL, false, 0 and empty vectors are left out; the vectors grow by criu_opts_…(). */
struct criu_opts {
	int32_t images_dir_fd, work_dir_fd; /* fds of the process that made the socket pair; work -1: none */
	int32_t pid, log_level, page_server_port;
	int32_t cgroups;        /* enum criu_cgroups */
	uint32_t empty_namespaces;
	bool leave_running, ext_unix_sk, tcp_established, tcp_skip_in_flight, evasive_devices, shell_job, file_locks;
	bool track_mem, auto_dedup, link_remap, manage_cgroups, rst_sibling, lazy_pages, orphan_pts_master;
	bool notify_scripts, cgroups_given;
	char *log_file, *root, *parent_img, *page_server_address, *freeze_cgroup, *config_file;
	char *lsm_profile, *lsm_mount_context;
	char **external;        /* "net[4026531840]:KEY" */
	struct criu_pairs ext_mounts, cgroup_roots, join_namespaces;
	struct criu_fd *inherit;
	size_t ninherit;
};
void criu_opts_mount(struct arena *a, struct criu_opts *o, const char *key, const char *value);
void criu_opts_cgroup_root(struct arena *a, struct criu_opts *o, const char *controller, const char *path);
void criu_opts_join(struct arena *a, struct criu_opts *o, const char *kind, const char *path);
void criu_opts_inherit(struct arena *a, struct criu_opts *o, const char *key, int fd);

struct criu_request {
	enum criu_type type;
	const struct criu_opts *opts;   /* NULL: none */
	bool notified;                  /* the answer to CRIU_NOTIFY: go on */
	unsigned features;              /* asked for by CRIU_FEATURE_CHECK */
};
int criu_request_write(struct buf *b, const struct criu_request *r, struct err *e);

struct criu_response {
	int32_t type;
	bool success;
	int32_t restored_pid;           /* of CRIU_RESTORE; 0: none */
	const char *script;             /* of CRIU_NOTIFY; "" */
	int32_t script_pid;
	int32_t error;                  /* errno */
	const char *message;            /* "" */
	int32_t version_major, version_minor, version_sublevel;
	unsigned features;              /* present ones */
};
/* ERR_DATA_LOSS: not a response. */
int criu_response_read(struct arena *a, struct str packet, struct criu_response *out, struct err *e);

#endif
