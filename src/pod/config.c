#include "pod/config.h"

#define F(type, member, kind) { #member, kind, offsetof(struct type, member), JSON_OPTIONAL, NULL, 0 }
#define OBJ(type, member, kind, fields, sub) \
	{ #member, kind, offsetof(struct type, member), JSON_OPTIONAL, fields, sizeof(struct sub) }
#define END { NULL, JSON_END, 0, 0, NULL, 0 }

static const struct json_field id_map_fields[] = {
	F(config_id_map, host_id, JSON_U32),
	F(config_id_map, container_id, JSON_U32),
	F(config_id_map, length, JSON_U32),
	END,
};

static const struct json_field userns_fields[] = {
	F(config_userns, mode, JSON_I32),
	OBJ(config_userns, uids, JSON_OBJV, id_map_fields, config_id_map),
	OBJ(config_userns, gids, JSON_OBJV, id_map_fields, config_id_map),
	END,
};

static const struct json_field namespaces_fields[] = {
	F(config_namespaces, network, JSON_I32),
	F(config_namespaces, pid, JSON_I32),
	F(config_namespaces, ipc, JSON_I32),
	F(config_namespaces, target_id, JSON_STR),
	OBJ(config_namespaces, userns, JSON_OBJ, userns_fields, config_userns),
	END,
};

static const struct json_field profile_fields[] = {
	F(config_profile, type, JSON_I32),
	F(config_profile, localhost, JSON_STR),
	END,
};

static const struct json_field selinux_fields[] = {
	F(config_selinux, user, JSON_STR),
	F(config_selinux, role, JSON_STR),
	F(config_selinux, type, JSON_STR),
	F(config_selinux, level, JSON_STR),
	END,
};

static const struct json_field hugepage_fields[] = {
	F(config_hugepage, page_size, JSON_STR),
	F(config_hugepage, limit_bytes, JSON_U64),
	END,
};

const struct json_field config_resources_fields[] = {
	F(config_resources, cpu_period_us, JSON_I64),
	F(config_resources, cpu_quota_us, JSON_I64),
	F(config_resources, cpu_shares, JSON_I64),
	F(config_resources, memory_bytes, JSON_I64),
	F(config_resources, memory_swap_bytes, JSON_I64),
	F(config_resources, oom_score_adj, JSON_I64),
	F(config_resources, cpuset_cpus, JSON_STR),
	F(config_resources, cpuset_mems, JSON_STR),
	OBJ(config_resources, hugepages, JSON_OBJV, hugepage_fields, config_hugepage),
	F(config_resources, unified, JSON_MAP),
	END,
};

static const struct json_field port_fields[] = {
	F(config_port, protocol, JSON_STR),
	F(config_port, container_port, JSON_I32),
	F(config_port, host_port, JSON_I32),
	F(config_port, host_ip, JSON_STR),
	END,
};

const struct json_field pod_config_fields[] = {
	F(pod_config, name, JSON_STR),
	F(pod_config, namespace_, JSON_STR),
	F(pod_config, uid, JSON_STR),
	F(pod_config, attempt, JSON_U32),
	F(pod_config, hostname, JSON_STR),
	F(pod_config, log_directory, JSON_STR),
	F(pod_config, dns_servers, JSON_STRV),
	F(pod_config, dns_searches, JSON_STRV),
	F(pod_config, dns_options, JSON_STRV),
	F(pod_config, dns_given, JSON_BOOL),
	OBJ(pod_config, ports, JSON_OBJV, port_fields, config_port),
	F(pod_config, labels, JSON_MAP),
	F(pod_config, annotations, JSON_MAP),
	F(pod_config, handler, JSON_STR),
	F(pod_config, cgroup_parent, JSON_STR),
	F(pod_config, sysctls, JSON_MAP),
	OBJ(pod_config, overhead, JSON_OBJ, config_resources_fields, config_resources),
	OBJ(pod_config, resources, JSON_OBJ, config_resources_fields, config_resources),
	OBJ(pod_config, namespaces, JSON_SUB, namespaces_fields, config_namespaces),
	OBJ(pod_config, selinux, JSON_OBJ, selinux_fields, config_selinux),
	F(pod_config, run_as_user, JSON_OPT_I64),
	F(pod_config, run_as_group, JSON_OPT_I64),
	F(pod_config, supplemental_groups, JSON_I64V),
	F(pod_config, groups_policy, JSON_I32),
	F(pod_config, privileged, JSON_BOOL),
	F(pod_config, readonly_rootfs, JSON_BOOL),
	OBJ(pod_config, seccomp, JSON_OBJ, profile_fields, config_profile),
	OBJ(pod_config, apparmor, JSON_OBJ, profile_fields, config_profile),
	END,
};

static const struct json_field env_fields[] = {
	F(config_env, key, JSON_STR),
	F(config_env, value, JSON_STR),
	END,
};

static const struct json_field mount_fields[] = {
	F(config_mount, container_path, JSON_STR),
	F(config_mount, host_path, JSON_STR),
	F(config_mount, readonly, JSON_BOOL),
	F(config_mount, recursive_readonly, JSON_BOOL),
	F(config_mount, selinux_relabel, JSON_BOOL),
	F(config_mount, propagation, JSON_I32),
	OBJ(config_mount, uid_maps, JSON_OBJV, id_map_fields, config_id_map),
	OBJ(config_mount, gid_maps, JSON_OBJV, id_map_fields, config_id_map),
	F(config_mount, image, JSON_STR),
	F(config_mount, image_id, JSON_STR),
	F(config_mount, image_ref, JSON_STR),
	F(config_mount, image_sub_path, JSON_STR),
	F(config_mount, options, JSON_STRV),
	END,
};

static const struct json_field device_fields[] = {
	F(config_device, container_path, JSON_STR),
	F(config_device, host_path, JSON_STR),
	F(config_device, permissions, JSON_STR),
	END,
};

const struct json_field container_config_fields[] = {
	F(container_config, name, JSON_STR),
	F(container_config, attempt, JSON_U32),
	F(container_config, image, JSON_STR),
	F(container_config, image_user_specified, JSON_STR),
	F(container_config, image_annotations, JSON_MAP),
	F(container_config, image_handler, JSON_STR),
	F(container_config, command, JSON_STRV),
	F(container_config, args, JSON_STRV),
	F(container_config, working_dir, JSON_STR),
	OBJ(container_config, envs, JSON_OBJV, env_fields, config_env),
	OBJ(container_config, mounts, JSON_OBJV, mount_fields, config_mount),
	OBJ(container_config, devices, JSON_OBJV, device_fields, config_device),
	F(container_config, cdi_devices, JSON_STRV),
	F(container_config, labels, JSON_MAP),
	F(container_config, annotations, JSON_MAP),
	F(container_config, log_path, JSON_STR),
	F(container_config, stdin_open, JSON_BOOL),
	F(container_config, stdin_once, JSON_BOOL),
	F(container_config, tty, JSON_BOOL),
	F(container_config, stop_signal, JSON_I32),
	OBJ(container_config, resources, JSON_OBJ, config_resources_fields, config_resources),
	F(container_config, add_capabilities, JSON_STRV),
	F(container_config, drop_capabilities, JSON_STRV),
	F(container_config, add_ambient_capabilities, JSON_STRV),
	F(container_config, privileged, JSON_BOOL),
	F(container_config, readonly_rootfs, JSON_BOOL),
	F(container_config, no_new_privs, JSON_BOOL),
	OBJ(container_config, namespaces, JSON_SUB, namespaces_fields, config_namespaces),
	OBJ(container_config, selinux, JSON_OBJ, selinux_fields, config_selinux),
	F(container_config, run_as_user, JSON_OPT_I64),
	F(container_config, run_as_group, JSON_OPT_I64),
	F(container_config, run_as_username, JSON_STR),
	F(container_config, supplemental_groups, JSON_I64V),
	F(container_config, groups_policy, JSON_I32),
	F(container_config, masked_paths, JSON_STRV),
	F(container_config, readonly_paths, JSON_STRV),
	OBJ(container_config, seccomp, JSON_OBJ, profile_fields, config_profile),
	OBJ(container_config, apparmor, JSON_OBJ, profile_fields, config_profile),
	END,
};

static void merge_unified(struct arena *a, struct json_map *to, const struct json_map *from)
{
	struct json_map all = { arena_newn0(a, struct json_pair, to->count + from->count + 1), 0 };

	for (size_t i = 0; i < to->count; i++)
		if (!json_map_get(from, to->p[i].key))
			all.p[all.count++] = to->p[i];
	for (size_t i = 0; i < from->count; i++)
		all.p[all.count++] = from->p[i];
	if (all.count)
		*to = all;
}

static bool has_page_size(const struct json_vec *v, const char *size)
{
	const struct config_hugepage *h = v->p;

	for (size_t i = 0; i < v->count; i++)
		if (streq_null(h[i].page_size, size))
			return true;
	return false;
}

static void merge_hugepages(struct arena *a, struct json_vec *to, const struct json_vec *from)
{
	struct config_hugepage *all = arena_newn0(a, struct config_hugepage, to->count + from->count + 1);
	const struct config_hugepage *old = to->p, *new = from->p;
	size_t n = 0;

	for (size_t i = 0; i < to->count; i++)
		if (!has_page_size(from, old[i].page_size))
			all[n++] = old[i];
	for (size_t i = 0; i < from->count; i++)
		all[n++] = new[i];
	if (n)
		*to = (struct json_vec){ all, n };
}

void config_resources_merge(struct arena *a, struct config_resources *r, const struct config_resources *change)
{
#define TAKE(member) if (change->member) r->member = change->member
	TAKE(cpu_period_us);
	TAKE(cpu_quota_us);
	TAKE(cpu_shares);
	TAKE(memory_bytes);
	TAKE(memory_swap_bytes);
	TAKE(oom_score_adj);
#undef TAKE
	if (!str_is_empty(change->cpuset_cpus))
		r->cpuset_cpus = change->cpuset_cpus;
	if (!str_is_empty(change->cpuset_mems))
		r->cpuset_mems = change->cpuset_mems;
	merge_unified(a, &r->unified, &change->unified);
	merge_hugepages(a, &r->hugepages, &change->hugepages);
}
