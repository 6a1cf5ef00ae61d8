#include "spec/oci_config.h"

#define FIELD(type, name, kind, member) { name, kind, offsetof(struct type, member) }
#define NEEDED(type, name, kind, member) { name, kind, offsetof(struct type, member), \
					   JSON_REQUIRED | JSON_KEEP_ZERO }
#define KEPT(type, name, kind, member) { name, kind, offsetof(struct type, member), JSON_KEEP_ZERO }
#define OBJ(type, name, member, sub, of) \
	{ name, JSON_OBJ, offsetof(struct type, member), 0, sub, sizeof(struct of) }
#define OBJV(type, name, member, sub, of) \
	{ name, JSON_OBJV, offsetof(struct type, member), 0, sub, sizeof(struct of) }

/* --- process ----------------------------------------------------------------------------------- */

static const struct json_field capabilities_fields[] = {
	FIELD(oci_capabilities, "bounding", JSON_STRV, bounding),
	FIELD(oci_capabilities, "effective", JSON_STRV, effective),
	FIELD(oci_capabilities, "inheritable", JSON_STRV, inheritable),
	FIELD(oci_capabilities, "permitted", JSON_STRV, permitted),
	FIELD(oci_capabilities, "ambient", JSON_STRV, ambient),
	{ 0 },
};

static const struct json_field rlimit_fields[] = {
	NEEDED(oci_rlimit, "type", JSON_STR, type),
	NEEDED(oci_rlimit, "hard", JSON_U64, hard),
	NEEDED(oci_rlimit, "soft", JSON_U64, soft),
	{ 0 },
};

static const struct json_field console_size_fields[] = {
	NEEDED(oci_console_size, "height", JSON_U32, height),
	NEEDED(oci_console_size, "width", JSON_U32, width),
	{ 0 },
};

static const struct json_field scheduler_fields[] = {
	NEEDED(oci_scheduler, "policy", JSON_STR, policy),
	FIELD(oci_scheduler, "nice", JSON_I32, nice),
	FIELD(oci_scheduler, "priority", JSON_I32, priority),
	FIELD(oci_scheduler, "flags", JSON_STRV, flags),
	FIELD(oci_scheduler, "runtime", JSON_U64, runtime),
	FIELD(oci_scheduler, "deadline", JSON_U64, deadline),
	FIELD(oci_scheduler, "period", JSON_U64, period),
	{ 0 },
};

static const struct json_field io_priority_fields[] = {
	NEEDED(oci_io_priority, "class", JSON_STR, class_name),
	KEPT(oci_io_priority, "priority", JSON_I32, priority),
	{ 0 },
};

static const struct json_field affinity_fields[] = {
	FIELD(oci_exec_cpu_affinity, "initial", JSON_STR, initial),
	FIELD(oci_exec_cpu_affinity, "final", JSON_STR, final),
	{ 0 },
};

static const struct json_field user_fields[] = {
	KEPT(oci_user, "uid", JSON_U32, uid),
	KEPT(oci_user, "gid", JSON_U32, gid),
	FIELD(oci_user, "umask", JSON_OPT_U32, umask),
	FIELD(oci_user, "additionalGids", JSON_U32V, additional_gids),
	FIELD(oci_user, "username", JSON_STR, username),
	{ 0 },
};

/* `user` is an object in line: written and read through a pointer beside the process. */
struct process_doc {
	struct oci_process process;
	struct oci_user *user;
};
#define PROCESS(name, kind, member) { name, kind, offsetof(struct process_doc, process.member) }

static const struct json_field process_fields[] = {
	PROCESS("terminal", JSON_BOOL, terminal),
	{ "consoleSize", JSON_OBJ, offsetof(struct process_doc, process.console_size), 0, console_size_fields,
	  sizeof(struct oci_console_size) },
	{ "user", JSON_OBJ, offsetof(struct process_doc, user), 0, user_fields, sizeof(struct oci_user) },
	PROCESS("args", JSON_STRV, args),
	PROCESS("env", JSON_STRV, env),
	{ "cwd", JSON_STR, offsetof(struct process_doc, process.cwd), JSON_REQUIRED },
	{ "capabilities", JSON_OBJ, offsetof(struct process_doc, process.capabilities), 0,
	  capabilities_fields, sizeof(struct oci_capabilities) },
	{ "rlimits", JSON_OBJV, offsetof(struct process_doc, process.rlimits), 0, rlimit_fields,
	  sizeof(struct oci_rlimit) },
	PROCESS("noNewPrivileges", JSON_BOOL, no_new_privileges),
	PROCESS("apparmorProfile", JSON_STR, apparmor_profile),
	PROCESS("oomScoreAdj", JSON_OPT_I32, oom_score_adj),
	{ "scheduler", JSON_OBJ, offsetof(struct process_doc, process.scheduler), 0, scheduler_fields,
	  sizeof(struct oci_scheduler) },
	PROCESS("selinuxLabel", JSON_STR, selinux_label),
	{ "ioPriority", JSON_OBJ, offsetof(struct process_doc, process.io_priority), 0, io_priority_fields,
	  sizeof(struct oci_io_priority) },
	{ "execCPUAffinity", JSON_OBJ, offsetof(struct process_doc, process.exec_cpu_affinity), 0,
	  affinity_fields, sizeof(struct oci_exec_cpu_affinity) },
	{ 0 },
};

/* --- root, mounts, hooks ----------------------------------------------------------------------- */

static const struct json_field root_fields[] = {
	NEEDED(oci_root, "path", JSON_STR, path),
	FIELD(oci_root, "readonly", JSON_BOOL, readonly),
	{ 0 },
};

static const struct json_field idmap_fields[] = {
	NEEDED(oci_idmap, "containerID", JSON_U32, container_id),
	NEEDED(oci_idmap, "hostID", JSON_U32, host_id),
	NEEDED(oci_idmap, "size", JSON_U32, size),
	{ 0 },
};

static const struct json_field mount_fields[] = {
	NEEDED(oci_mount, "destination", JSON_STR, destination),
	FIELD(oci_mount, "type", JSON_STR, type),
	FIELD(oci_mount, "source", JSON_STR, source),
	FIELD(oci_mount, "options", JSON_STRV, options),
	OBJV(oci_mount, "uidMappings", uid_mappings, idmap_fields, oci_idmap),
	OBJV(oci_mount, "gidMappings", gid_mappings, idmap_fields, oci_idmap),
	{ 0 },
};

static const struct json_field hook_fields[] = {
	NEEDED(oci_hook, "path", JSON_STR, path),
	FIELD(oci_hook, "args", JSON_STRV, args),
	FIELD(oci_hook, "env", JSON_STRV, env),
	FIELD(oci_hook, "timeout", JSON_OPT_I64, timeout),
	{ 0 },
};

static const struct json_field hooks_fields[] = {
	OBJV(oci_hooks, "prestart", prestart, hook_fields, oci_hook),
	OBJV(oci_hooks, "createRuntime", create_runtime, hook_fields, oci_hook),
	OBJV(oci_hooks, "createContainer", create_container, hook_fields, oci_hook),
	OBJV(oci_hooks, "startContainer", start_container, hook_fields, oci_hook),
	OBJV(oci_hooks, "poststart", poststart, hook_fields, oci_hook),
	OBJV(oci_hooks, "poststop", poststop, hook_fields, oci_hook),
	{ 0 },
};

/* --- resources --------------------------------------------------------------------------------- */

static const struct json_field device_rule_fields[] = {
	NEEDED(oci_device_rule, "allow", JSON_BOOL, allow),
	FIELD(oci_device_rule, "type", JSON_STR, type),
	FIELD(oci_device_rule, "major", JSON_OPT_I64, major),
	FIELD(oci_device_rule, "minor", JSON_OPT_I64, minor),
	FIELD(oci_device_rule, "access", JSON_STR, access),
	{ 0 },
};

static const struct json_field memory_fields[] = {
	FIELD(oci_memory, "limit", JSON_OPT_I64, limit),
	FIELD(oci_memory, "reservation", JSON_OPT_I64, reservation),
	FIELD(oci_memory, "swap", JSON_OPT_I64, swap),
	FIELD(oci_memory, "kernel", JSON_OPT_I64, kernel),
	FIELD(oci_memory, "kernelTCP", JSON_OPT_I64, kernel_tcp),
	FIELD(oci_memory, "swappiness", JSON_OPT_U64, swappiness),
	FIELD(oci_memory, "disableOOMKiller", JSON_OPT_BOOL, disable_oom_killer),
	FIELD(oci_memory, "useHierarchy", JSON_OPT_BOOL, use_hierarchy),
	FIELD(oci_memory, "checkBeforeUpdate", JSON_OPT_BOOL, check_before_update),
	{ 0 },
};

static const struct json_field cpu_fields[] = {
	FIELD(oci_cpu, "shares", JSON_OPT_U64, shares),
	FIELD(oci_cpu, "quota", JSON_OPT_I64, quota),
	FIELD(oci_cpu, "burst", JSON_OPT_U64, burst),
	FIELD(oci_cpu, "period", JSON_OPT_U64, period),
	FIELD(oci_cpu, "realtimeRuntime", JSON_OPT_I64, realtime_runtime),
	FIELD(oci_cpu, "realtimePeriod", JSON_OPT_U64, realtime_period),
	FIELD(oci_cpu, "cpus", JSON_STR, cpus),
	FIELD(oci_cpu, "mems", JSON_STR, mems),
	FIELD(oci_cpu, "idle", JSON_OPT_I64, idle),
	{ 0 },
};

static const struct json_field pids_fields[] = {
	FIELD(oci_pids, "limit", JSON_OPT_I64, limit),
	{ 0 },
};

static const struct json_field weight_device_fields[] = {
	NEEDED(oci_weight_device, "major", JSON_I64, major),
	NEEDED(oci_weight_device, "minor", JSON_I64, minor),
	FIELD(oci_weight_device, "weight", JSON_OPT_U32, weight),
	FIELD(oci_weight_device, "leafWeight", JSON_OPT_U32, leaf_weight),
	{ 0 },
};

static const struct json_field throttle_fields[] = {
	NEEDED(oci_throttle_device, "major", JSON_I64, major),
	NEEDED(oci_throttle_device, "minor", JSON_I64, minor),
	NEEDED(oci_throttle_device, "rate", JSON_U64, rate),
	{ 0 },
};

static const struct json_field block_io_fields[] = {
	FIELD(oci_block_io, "weight", JSON_OPT_U32, weight),
	FIELD(oci_block_io, "leafWeight", JSON_OPT_U32, leaf_weight),
	OBJV(oci_block_io, "weightDevice", weight_device, weight_device_fields, oci_weight_device),
	OBJV(oci_block_io, "throttleReadBpsDevice", throttle_read_bps, throttle_fields, oci_throttle_device),
	OBJV(oci_block_io, "throttleWriteBpsDevice", throttle_write_bps, throttle_fields,
	     oci_throttle_device),
	OBJV(oci_block_io, "throttleReadIOPSDevice", throttle_read_iops, throttle_fields,
	     oci_throttle_device),
	OBJV(oci_block_io, "throttleWriteIOPSDevice", throttle_write_iops, throttle_fields,
	     oci_throttle_device),
	{ 0 },
};

static const struct json_field hugepage_fields[] = {
	NEEDED(oci_hugepage_limit, "pageSize", JSON_STR, page_size),
	NEEDED(oci_hugepage_limit, "limit", JSON_U64, limit),
	{ 0 },
};

static const struct json_field interface_priority_fields[] = {
	NEEDED(oci_interface_priority, "name", JSON_STR, name),
	NEEDED(oci_interface_priority, "priority", JSON_U32, priority),
	{ 0 },
};

static const struct json_field network_fields[] = {
	FIELD(oci_network, "classID", JSON_OPT_U32, class_id),
	OBJV(oci_network, "priorities", priorities, interface_priority_fields, oci_interface_priority),
	{ 0 },
};

static const struct json_field resources_fields[] = {
	FIELD(oci_resources, "unified", JSON_MAP, unified),
	OBJV(oci_resources, "devices", devices, device_rule_fields, oci_device_rule),
	OBJ(oci_resources, "memory", memory, memory_fields, oci_memory),
	OBJ(oci_resources, "cpu", cpu, cpu_fields, oci_cpu),
	OBJ(oci_resources, "pids", pids, pids_fields, oci_pids),
	OBJ(oci_resources, "blockIO", block_io, block_io_fields, oci_block_io),
	OBJV(oci_resources, "hugepageLimits", hugepage_limits, hugepage_fields, oci_hugepage_limit),
	OBJ(oci_resources, "network", network, network_fields, oci_network),
	FIELD(oci_resources, "rdma", JSON_ANY, rdma),
	{ 0 },
};

/* --- linux ------------------------------------------------------------------------------------- */

static const struct json_field namespace_fields[] = {
	NEEDED(oci_namespace, "type", JSON_STR, type),
	FIELD(oci_namespace, "path", JSON_STR, path),
	{ 0 },
};

static const struct json_field device_fields[] = {
	NEEDED(oci_device, "path", JSON_STR, path),
	NEEDED(oci_device, "type", JSON_STR, type),
	KEPT(oci_device, "major", JSON_I64, major),
	KEPT(oci_device, "minor", JSON_I64, minor),
	FIELD(oci_device, "fileMode", JSON_OPT_U32, file_mode),
	FIELD(oci_device, "uid", JSON_OPT_U32, uid),
	FIELD(oci_device, "gid", JSON_OPT_U32, gid),
	{ 0 },
};

static const struct json_field time_offset_fields[] = {
	FIELD(oci_time_offset, "secs", JSON_I64, secs),
	FIELD(oci_time_offset, "nanosecs", JSON_U32, nanosecs),
	{ 0 },
};

static const struct json_field time_offsets_fields[] = {
	OBJ(oci_time_offsets, "monotonic", monotonic, time_offset_fields, oci_time_offset),
	OBJ(oci_time_offsets, "boottime", boottime, time_offset_fields, oci_time_offset),
	{ 0 },
};

static const struct json_field syscall_arg_fields[] = {
	NEEDED(oci_syscall_arg, "index", JSON_U32, index),
	NEEDED(oci_syscall_arg, "value", JSON_U64, value),
	FIELD(oci_syscall_arg, "valueTwo", JSON_U64, value_two),
	NEEDED(oci_syscall_arg, "op", JSON_STR, op),
	{ 0 },
};

static const struct json_field syscall_rule_fields[] = {
	NEEDED(oci_syscall_rule, "names", JSON_STRV, names),
	NEEDED(oci_syscall_rule, "action", JSON_STR, action),
	FIELD(oci_syscall_rule, "errnoRet", JSON_OPT_U32, errno_ret),
	OBJV(oci_syscall_rule, "args", args, syscall_arg_fields, oci_syscall_arg),
	{ 0 },
};

static const struct json_field seccomp_fields[] = {
	NEEDED(oci_seccomp, "defaultAction", JSON_STR, default_action),
	FIELD(oci_seccomp, "defaultErrnoRet", JSON_OPT_U32, default_errno_ret),
	FIELD(oci_seccomp, "architectures", JSON_STRV, architectures),
	FIELD(oci_seccomp, "flags", JSON_STRV, flags),
	FIELD(oci_seccomp, "listenerPath", JSON_STR, listener_path),
	FIELD(oci_seccomp, "listenerMetadata", JSON_STR, listener_metadata),
	OBJV(oci_seccomp, "syscalls", syscalls, syscall_rule_fields, oci_syscall_rule),
	{ 0 },
};

static const struct json_field intel_rdt_fields[] = {
	FIELD(oci_intel_rdt, "closID", JSON_STR, clos_id),
	FIELD(oci_intel_rdt, "schemata", JSON_STRV, schemata),
	FIELD(oci_intel_rdt, "l3CacheSchema", JSON_STR, l3_cache_schema),
	FIELD(oci_intel_rdt, "memBwSchema", JSON_STR, mem_bw_schema),
	FIELD(oci_intel_rdt, "enableMonitoring", JSON_BOOL, enable_monitoring),
	FIELD(oci_intel_rdt, "enableCMT", JSON_BOOL, enable_cmt),
	FIELD(oci_intel_rdt, "enableMBM", JSON_BOOL, enable_mbm),
	{ 0 },
};

static const struct json_field personality_fields[] = {
	NEEDED(oci_personality, "domain", JSON_STR, domain),
	FIELD(oci_personality, "flags", JSON_STRV, flags),
	{ 0 },
};

static const struct json_field memory_policy_fields[] = {
	NEEDED(oci_memory_policy, "mode", JSON_STR, mode),
	FIELD(oci_memory_policy, "nodes", JSON_STR, nodes),
	FIELD(oci_memory_policy, "flags", JSON_STRV, flags),
	{ 0 },
};

static const struct json_field linux_fields[] = {
	OBJV(oci_linux, "uidMappings", uid_mappings, idmap_fields, oci_idmap),
	OBJV(oci_linux, "gidMappings", gid_mappings, idmap_fields, oci_idmap),
	OBJ(oci_linux, "timeOffsets", time_offsets, time_offsets_fields, oci_time_offsets),
	FIELD(oci_linux, "sysctl", JSON_MAP, sysctl),
	OBJ(oci_linux, "resources", resources, resources_fields, oci_resources),
	FIELD(oci_linux, "cgroupsPath", JSON_STR, cgroups_path),
	OBJV(oci_linux, "namespaces", namespaces, namespace_fields, oci_namespace),
	OBJV(oci_linux, "devices", devices, device_fields, oci_device),
	FIELD(oci_linux, "netDevices", JSON_ANY, net_devices),
	OBJ(oci_linux, "seccomp", seccomp, seccomp_fields, oci_seccomp),
	FIELD(oci_linux, "rootfsPropagation", JSON_STR, rootfs_propagation),
	FIELD(oci_linux, "maskedPaths", JSON_STRV, masked_paths),
	FIELD(oci_linux, "readonlyPaths", JSON_STRV, readonly_paths),
	FIELD(oci_linux, "mountLabel", JSON_STR, mount_label),
	OBJ(oci_linux, "intelRdt", intel_rdt, intel_rdt_fields, oci_intel_rdt),
	OBJ(oci_linux, "personality", personality, personality_fields, oci_personality),
	OBJ(oci_linux, "memoryPolicy", memory_policy, memory_policy_fields, oci_memory_policy),
	{ 0 },
};

/* Like `user`, the process is read through a document of its own and then joined. */
struct config_doc {
	struct oci_config config;
	struct process_doc *process;
};
#define CONFIG(name, kind, member) { name, kind, offsetof(struct config_doc, config.member) }
#define CONFIG_SUB(name, kind, member, sub, of) \
	{ name, kind, offsetof(struct config_doc, config.member), 0, sub, sizeof(struct of) }

static const struct json_field config_fields[] = {
	{ "ociVersion", JSON_STR, offsetof(struct config_doc, config.oci_version), JSON_REQUIRED },
	{ "process", JSON_OBJ, offsetof(struct config_doc, process), 0, process_fields,
	  sizeof(struct process_doc) },
	CONFIG_SUB("root", JSON_OBJ, root, root_fields, oci_root),
	CONFIG("hostname", JSON_STR, hostname),
	CONFIG("domainname", JSON_STR, domainname),
	CONFIG_SUB("mounts", JSON_OBJV, mounts, mount_fields, oci_mount),
	CONFIG_SUB("hooks", JSON_OBJ, hooks, hooks_fields, oci_hooks),
	CONFIG("annotations", JSON_MAP, annotations),
	CONFIG_SUB("linux", JSON_OBJ, on_linux, linux_fields, oci_linux),
	{ 0 },
};

static struct oci_process *process_joined(struct process_doc *doc)
{
	if (doc->user)
		doc->process.user = *doc->user;
	return &doc->process;
}

int oci_config_read(struct arena *a, struct str text, struct oci_config *out, struct err *e)
{
	struct config_doc doc = { 0 };

	if (json_load(a, text, config_fields, 0, &doc, e) < 0)
		return -1;
	if (doc.process)
		doc.config.process = process_joined(doc.process);
	*out = doc.config;
	return 0;
}

int oci_config_write(struct buf *b, const struct oci_config *c, struct err *e)
{
	struct config_doc doc = { .config = *c };
	struct process_doc process;

	if (c->process) {
		process = (struct process_doc){ .process = *c->process, .user = &c->process->user };
		doc.process = &process;
	}
	return json_write(b, config_fields, &doc, e);
}

int oci_process_read(struct arena *a, struct str text, struct oci_process *out, struct err *e)
{
	struct process_doc doc = { 0 };

	if (json_load(a, text, process_fields, 0, &doc, e) < 0)
		return -1;
	*out = *process_joined(&doc);
	return 0;
}

int oci_process_write(struct buf *b, const struct oci_process *p, struct err *e)
{
	struct oci_user user = p->user;
	struct process_doc doc = { .process = *p, .user = &user };

	return json_write(b, process_fields, &doc, e);
}

int oci_resources_read(struct arena *a, struct str text, struct oci_resources *out, struct err *e)
{
	struct oci_resources r = { 0 };

	if (json_load(a, text, resources_fields, 0, &r, e) < 0)
		return -1;
	*out = r;
	return 0;
}
