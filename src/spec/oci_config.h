/* The OCI runtime configuration (config.json, runtime-spec 1.3) for Linux, whole: read, written,
 * validated. The structs mirror the specification's objects and names
 * (https://github.com/opencontainers/runtime-spec: config.md, config-linux.md).
 *
 * All texts and arrays live in the arena that the document was read into (or that its builder used).
 * NULL pointers and empty vectors mean that the key is absent. Vectors are `struct json_vec` whose
 * elements are the struct named beside them; OCI_EACH() walks one. Unknown keys are ignored, as the
 * specification demands. Windows, Solaris, z/OS and VM parts are not read. Pure: no I/O. */
#ifndef KNARR_SPEC_OCI_CONFIG_H
#define KNARR_SPEC_OCI_CONFIG_H

#include "base/json.h"

#define OCI_EACH(type, item, vec)                                                     \
	for (struct type *item = (struct type *)(vec).p,                              \
	     *item##_end = item ? item + (vec).count : item; item != item##_end; item++)

/* --- process ----------------------------------------------------------------------------------- */

struct oci_user {
	uint32_t uid, gid;
	uint32_t *umask;                /* NULL: 0022 */
	struct json_vec additional_gids; /* uint32_t (JSON_U32V) */
	char *username;                 /* not used on Linux */
};

struct oci_capabilities {               /* each a strv of CAP_ names, NULL: none */
	char **bounding, **effective, **inheritable, **permitted, **ambient;
};

struct oci_rlimit {
	char *type;                     /* RLIMIT_NOFILE */
	uint64_t soft, hard;
};

struct oci_console_size {
	uint32_t height, width;
};

struct oci_scheduler {
	char *policy;                   /* SCHED_OTHER … */
	int32_t nice, priority;
	char **flags;
	uint64_t runtime, deadline, period;
};

struct oci_io_priority {
	char *class_name;               /* IOPRIO_CLASS_RT, _BE, _IDLE */
	int32_t priority;
};

struct oci_exec_cpu_affinity {
	char *initial, *final;
};

struct oci_process {
	bool terminal;
	struct oci_console_size *console_size;
	struct oci_user user;
	char **args;
	char **env;
	char *cwd;
	struct oci_capabilities *capabilities; /* NULL: none at all */
	struct json_vec rlimits;        /* struct oci_rlimit */
	bool no_new_privileges;
	char *apparmor_profile, *selinux_label;
	int32_t *oom_score_adj;         /* NULL: the runtime's own */
	struct oci_scheduler *scheduler;
	struct oci_io_priority *io_priority;
	struct oci_exec_cpu_affinity *exec_cpu_affinity;
};

/* --- root, mounts, hooks ----------------------------------------------------------------------- */

struct oci_root {
	char *path;                     /* absolute, or relative to the bundle */
	bool readonly;
};

struct oci_idmap {
	uint32_t container_id, host_id, size;
};

struct oci_mount {
	char *destination, *type, *source;
	char **options;
	struct json_vec uid_mappings, gid_mappings; /* struct oci_idmap */
};

struct oci_hook {
	char *path;
	char **args, **env;
	int64_t *timeout;               /* seconds, > 0 */
};

struct oci_hooks {                      /* vectors of struct oci_hook */
	struct json_vec prestart, create_runtime, create_container, start_container, poststart, poststop;
};

/* --- linux ------------------------------------------------------------------------------------- */

struct oci_namespace {
	char *type;                     /* pid network mount ipc uts user cgroup time */
	char *path;                     /* NULL: a new one */
};

struct oci_device {
	char *path, *type;              /* c b u p */
	int64_t major, minor;
	uint32_t *file_mode, *uid, *gid;
};

struct oci_time_offset {
	int64_t secs;
	uint32_t nanosecs;
};
struct oci_time_offsets {
	struct oci_time_offset *monotonic, *boottime;
};

struct oci_device_rule {
	bool allow;
	char *type;                     /* a c b; NULL: a */
	int64_t *major, *minor;         /* NULL or -1: all */
	char *access;                   /* of r w m; NULL: all */
};

struct oci_memory {
	int64_t *limit, *reservation, *swap, *kernel, *kernel_tcp;
	uint64_t *swappiness;
	bool *disable_oom_killer, *use_hierarchy, *check_before_update;
};

struct oci_cpu {
	uint64_t *shares;
	int64_t *quota;
	uint64_t *burst, *period;
	int64_t *realtime_runtime;
	uint64_t *realtime_period;
	char *cpus, *mems;
	int64_t *idle;
};

struct oci_pids {
	int64_t *limit;                 /* NULL: leave; -1 (or 0 in older documents): unlimited */
};

struct oci_weight_device {
	int64_t major, minor;
	uint32_t *weight, *leaf_weight;
};
struct oci_throttle_device {
	int64_t major, minor;
	uint64_t rate;
};
struct oci_block_io {
	uint32_t *weight, *leaf_weight;
	struct json_vec weight_device;  /* struct oci_weight_device */
	struct json_vec throttle_read_bps, throttle_write_bps, throttle_read_iops, throttle_write_iops;
	                                /* struct oci_throttle_device */
};

struct oci_hugepage_limit {
	char *page_size;                /* 2MB, 1GB, 64KB */
	uint64_t limit;
};

struct oci_interface_priority {
	char *name;
	uint32_t priority;
};
struct oci_network {
	uint32_t *class_id;
	struct json_vec priorities;     /* struct oci_interface_priority */
};

struct oci_resources {
	struct json_map unified;        /* cgroup v2 file: text */
	struct json_vec devices;        /* struct oci_device_rule, the last that matches decides */
	struct oci_memory *memory;
	struct oci_cpu *cpu;
	struct oci_pids *pids;
	struct oci_block_io *block_io;
	struct json_vec hugepage_limits; /* struct oci_hugepage_limit */
	struct oci_network *network;
	const struct json *rdma;        /* object of device: { hcaHandles, hcaObjects } */
};

struct oci_syscall_arg {
	uint32_t index;
	uint64_t value, value_two;
	char *op;                       /* SCMP_CMP_… */
};
struct oci_syscall_rule {
	char **names;
	char *action;                   /* SCMP_ACT_… */
	uint32_t *errno_ret;
	struct json_vec args;           /* struct oci_syscall_arg */
};
struct oci_seccomp {
	char *default_action;
	uint32_t *default_errno_ret;
	char **architectures;           /* SCMP_ARCH_…; NULL: the native one */
	char **flags;                   /* SECCOMP_FILTER_FLAG_… */
	char *listener_path, *listener_metadata;
	struct json_vec syscalls;       /* struct oci_syscall_rule */
};

struct oci_intel_rdt {
	char *clos_id;
	char **schemata;
	char *l3_cache_schema, *mem_bw_schema;
	bool enable_monitoring, enable_cmt, enable_mbm;
};
struct oci_personality {
	char *domain;                   /* LINUX, LINUX32 */
	char **flags;
};
struct oci_memory_policy {
	char *mode, *nodes;
	char **flags;
};

struct oci_linux {
	struct json_vec uid_mappings, gid_mappings; /* struct oci_idmap */
	struct oci_time_offsets *time_offsets;
	struct json_map sysctl;
	struct oci_resources *resources;
	char *cgroups_path;
	struct json_vec namespaces;     /* struct oci_namespace */
	struct json_vec devices;        /* struct oci_device */
	const struct json *net_devices; /* object of host name: { name } */
	struct oci_seccomp *seccomp;
	char *rootfs_propagation;       /* shared slave private unbindable, each also r… */
	char **masked_paths, **readonly_paths;
	char *mount_label;
	struct oci_intel_rdt *intel_rdt;
	struct oci_personality *personality;
	struct oci_memory_policy *memory_policy;
};

struct oci_config {
	char *oci_version;
	struct oci_root *root;
	struct json_vec mounts;         /* struct oci_mount */
	struct oci_process *process;
	char *hostname, *domainname;
	struct oci_hooks *hooks;
	struct oci_linux *on_linux;     /* "linux" */
	struct json_map annotations;
};

enum { OCI_CONFIG_MAX = 16 << 20 };     /* bytes of text that we read */

/* Reads config.json. ERR_INVALID names line, column and field. Does not validate. */
int oci_config_read(struct arena *a, struct str text, struct oci_config *out, struct err *e);
/* Writes it; ERR_EXHAUSTED past the buffer's maximum. */
int oci_config_write(struct buf *b, const struct oci_config *c, struct err *e);
/* process.json, for `exec --process`. */
int oci_process_read(struct arena *a, struct str text, struct oci_process *out, struct err *e);
int oci_process_write(struct buf *b, const struct oci_process *p, struct err *e);
/* resources, as `update --resources` reads them. */
int oci_resources_read(struct arena *a, struct str text, struct oci_resources *out, struct err *e);

/* What the specification demands and the text alone can tell: versions, absolute paths, known and
 * unique namespaces, rlimits, sysctls that belong to a namespace of the container… ERR_INVALID
 * names the field. */
int oci_config_validate(const struct oci_config *c, struct err *e);
int oci_process_validate(const struct oci_process *p, struct err *e);
/* Where an error's text begins with a field of the document ("linux.seccomp.flags: …", after "config.json: "), puts
 * the line and column of that field before it; else leaves the error as it is. */
void oci_config_place(struct arena *a, struct str text, struct err *e);

/* The lowest ociVersion that knows every field in use, so that older runtimes take the document. */
const char *oci_config_lowest_version(const struct oci_config *c);
/* The namespace of this type ("pid", "network", …), NULL: the container stays in the runtime's. */
const struct oci_namespace *oci_namespace_find(const struct oci_config *c, const char *type);

/* Of a member of linux.netDevices (its key is the host's name): what it is called in the container; NULL: no name. */
const char *oci_net_device_name(const struct json *device);

#define OCI_VERSION "1.3.0"             /* what we know */

#endif
