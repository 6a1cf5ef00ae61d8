/* PodSandboxConfig and ContainerConfig become the model's wishes. */
#include "cri/parts.h"

#include "pod/container_spec.h"

static int check_map(const struct json_map *m, const char *field, struct err *e)
{
	for (size_t i = 0; i < m->count; i++) {
		if (str_is_empty(m->p[i].key))
			return err_set(e, ERR_INVALID, "%s: an empty key", field);
	}
	return 0;
}

static int pod_metadata_in(const CRI_T(PodSandboxMetadata) *in, struct pod_config *out, struct err *e)
{
	if (!in)
		return err_set(e, ERR_INVALID, "config.metadata is missing");
	if (require(in->name, "config.metadata.name", e) < 0 || require(in->uid, "config.metadata.uid", e) < 0 ||
	    require(in->namespace_, "config.metadata.namespace", e) < 0)
		return -1;
	out->name = in->name;
	out->uid = in->uid;
	out->namespace_ = in->namespace_;
	out->attempt = in->attempt;
	return 0;
}

static const char *const protocols[] = { "tcp", "udp", "sctp" };

static int ports_in(struct arena *a, const CRI_T(PodSandboxConfig) *in, struct json_vec *out, struct err *e)
{
	struct config_port *ports = arena_newn0(a, struct config_port, in->n_port_mappings + 1);

	for (size_t i = 0; i < in->n_port_mappings; i++) {
		const CRI_T(PortMapping) *p = in->port_mappings[i];

		if ((unsigned)p->protocol >= ARRAY_SIZE(protocols))
			return err_set(e, ERR_INVALID, "config.port_mappings[%zu].protocol: unknown protocol %d", i,
				       (int)p->protocol);
		if (p->host_port < 0 || p->host_port > UINT16_MAX)
			return err_set(e, ERR_INVALID, "config.port_mappings[%zu].host_port is %d", i, p->host_port);
		if (p->container_port < 0 || p->container_port > UINT16_MAX ||
		    (p->host_port > 0 && p->container_port == 0))
			return err_set(e, ERR_INVALID, "config.port_mappings[%zu].container_port is %d", i,
				       p->container_port);
		ports[i] = (struct config_port){ (char *)protocols[p->protocol], p->container_port, p->host_port,
						 text_in(p->host_ip) };
	}
	*out = in->n_port_mappings > 0 ? (struct json_vec){ ports, in->n_port_mappings } : (struct json_vec){ 0 };
	return 0;
}

static int policy_in(CRI_T(SupplementalGroupsPolicy) in, enum config_groups_policy *out, struct err *e)
{
	if ((unsigned)in > CONFIG_GROUPS_STRICT)
		return err_set(e, ERR_INVALID, "supplemental_groups_policy: unknown policy %d", (int)in);
	*out = (enum config_groups_policy)in;
	return 0;
}

static int pod_security_in(struct arena *a, const CRI_T(LinuxSandboxSecurityContext) *in, struct pod_config *out,
			   struct err *e)
{
	if (!in)
		return 0;
	if (namespaces_in(a, in->namespace_options, &out->namespaces, e) < 0)
		return -1;
	if (out->namespaces.pid == CONFIG_NS_TARGET)
		return err_set(e, ERR_INVALID, "namespace_options.pid: a pod cannot TARGET a container");
	out->selinux = selinux_in(a, in->selinux_options);
	out->run_as_user = int64_in(a, in->run_as_user);
	out->run_as_group = int64_in(a, in->run_as_group);
	if (out->run_as_group && !out->run_as_user)
		return err_set(e, ERR_INVALID, "config.linux.security_context.run_as_group without run_as_user");
	out->supplemental_groups = groups_in(a, in->n_supplemental_groups, in->supplemental_groups);
	out->privileged = in->privileged;
	out->readonly_rootfs = in->readonly_rootfs;
	if (policy_in(in->supplemental_groups_policy, &out->groups_policy, e) < 0)
		return -1;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* older kubelets send it */
	if (profile_in(a, in->seccomp, in->seccomp_profile_path, "seccomp", &out->seccomp, e) < 0)
		return -1;
#pragma GCC diagnostic pop
	return profile_in(a, in->apparmor, NULL, "apparmor", &out->apparmor, e);
}

int pod_config_in(struct arena *a, const CRI_T(PodSandboxConfig) *in, const char *handler, struct pod_config *out,
		  struct err *e)
{
	struct pod_config p = { 0 };

	if (!in)
		return err_set(e, ERR_INVALID, "config is missing");
	if (in->windows)
		return err_set(e, ERR_INVALID, "config.windows: this is a Linux node");
	if (pod_metadata_in(in->metadata, &p, e) < 0 || ports_in(a, in, &p.ports, e) < 0)
		return -1;
	p.hostname = text_in(in->hostname);
	p.log_directory = text_in(in->log_directory);
	if (p.log_directory && p.log_directory[0] != '/')
		return err_set(e, ERR_INVALID, "config.log_directory \"%s\" is not absolute", p.log_directory);
	if (in->dns_config) {
		p.dns_given = true;
		p.dns_servers = strv_in(a, in->dns_config->n_servers, in->dns_config->servers);
		p.dns_searches = strv_in(a, in->dns_config->n_searches, in->dns_config->searches);
		p.dns_options = strv_in(a, in->dns_config->n_options, in->dns_config->options);
	}
	p.labels = map_in(a, in->n_labels, in->labels);
	p.annotations = map_in(a, in->n_annotations, in->annotations);
	p.handler = text_in(handler);
	if (in->linux) {
		p.cgroup_parent = text_in(in->linux->cgroup_parent);
		p.sysctls = map_in(a, in->linux->n_sysctls, in->linux->sysctls);
		p.overhead = resources_in(a, in->linux->overhead);
		p.resources = resources_in(a, in->linux->resources);
		if (check_map(&p.sysctls, "config.linux.sysctls", e) < 0 ||
		    pod_security_in(a, in->linux->security_context, &p, e) < 0)
			return -1;
	}
	*out = p;
	return 0;
}

/* --- containers -------------------------------------------------------------------------------------- */

static int envs_in(struct arena *a, const CRI_T(ContainerConfig) *in, struct json_vec *out, struct err *e)
{
	struct config_env *envs = arena_newn0(a, struct config_env, in->n_envs + 1);

	for (size_t i = 0; i < in->n_envs; i++) {
		const CRI_T(KeyValue) *kv = in->envs[i];

		if (str_is_empty(kv->key) || strchr(kv->key, '='))
			return err_set(e, ERR_INVALID, "config.envs[%zu].key \"%s\" is no name", i, kv->key);
		if (kv->value.len > 0 && memchr(kv->value.data, 0, kv->value.len))
			return err_set(e, ERR_INVALID, "config.envs[%zu].value: %s has a NUL byte", i, kv->key);
		envs[i] = (struct config_env){
			kv->key, arena_strndup(a, kv->value.len ? (const char *)kv->value.data : "", kv->value.len),
		};
	}
	*out = in->n_envs > 0 ? (struct json_vec){ envs, in->n_envs } : (struct json_vec){ 0 };
	return 0;
}

static int mount_in(struct arena *a, const CRI_T(Mount) *m, size_t i, struct config_mount *out, struct err *e)
{
	if (str_is_empty(m->container_path))
		return err_set(e, ERR_INVALID, "config.mounts[%zu].container_path is empty", i);
	if (m->image ? !str_is_empty(m->host_path) : str_is_empty(m->host_path))
		return err_set(e, ERR_INVALID, "config.mounts[%zu] (%s): %s", i, m->container_path,
			       m->image ? "both host_path and image" : "neither host_path nor image");
	if (m->image && require(m->image->image, "config.mounts.image.image", e) < 0)
		return -1;
	if (m->image && !m->readonly) /* who asks to write would find only later that nobody can */
		return err_set(e, ERR_INVALID, "config.mounts[%zu] (%s): an image volume is read-only: readonly must be true",
			       i, m->container_path);
	if (!m->image && !str_is_empty(m->image_sub_path))
		return err_set(e, ERR_INVALID, "config.mounts[%zu].image_sub_path without image", i);
	if ((unsigned)m->propagation > CONFIG_BIDIRECTIONAL)
		return err_set(e, ERR_INVALID, "config.mounts[%zu].propagation: unknown value %d", i,
			       (int)m->propagation);
	if (m->recursive_read_only && (!m->readonly || m->propagation != RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_PRIVATE))
		return err_set(e, ERR_INVALID,
			       "config.mounts[%zu].recursive_read_only wants readonly and private propagation", i);
	*out = (struct config_mount){
		.container_path = m->container_path, .host_path = text_in(m->host_path),
		.readonly = m->readonly, .recursive_readonly = m->recursive_read_only,
		.selinux_relabel = m->selinux_relabel, .propagation = (enum config_propagation)m->propagation,
		.uid_maps = idmaps_in(a, m->n_uidmappings, m->uidmappings),
		.gid_maps = idmaps_in(a, m->n_gidmappings, m->gidmappings),
		.image = m->image ? m->image->image : NULL,
		.image_ref = m->image ? text_in(m->image->image_ref) : NULL, .image_sub_path = text_in(m->image_sub_path),
		.options = strv_in(a, m->n_mount_options, m->mount_options),
	};
	return 0;
}

static int mounts_in(struct arena *a, const CRI_T(ContainerConfig) *in, struct json_vec *out, struct err *e)
{
	struct config_mount *mounts = arena_newn0(a, struct config_mount, in->n_mounts + 1);

	for (size_t i = 0; i < in->n_mounts; i++) {
		if (mount_in(a, in->mounts[i], i, &mounts[i], e) < 0)
			return -1;
	}
	*out = in->n_mounts > 0 ? (struct json_vec){ mounts, in->n_mounts } : (struct json_vec){ 0 };
	return 0;
}

static int devices_in(struct arena *a, const CRI_T(ContainerConfig) *in, struct json_vec *out, struct err *e)
{
	struct config_device *devices = arena_newn0(a, struct config_device, in->n_devices + 1);

	for (size_t i = 0; i < in->n_devices; i++) {
		const CRI_T(Device) *d = in->devices[i];

		if (str_is_empty(d->host_path))
			return err_set(e, ERR_INVALID, "config.devices[%zu].host_path is empty", i);
		devices[i] = (struct config_device){ text_in(d->container_path), d->host_path,
						     text_in(d->permissions) };
	}
	*out = in->n_devices > 0 ? (struct json_vec){ devices, in->n_devices } : (struct json_vec){ 0 };
	return 0;
}

static char **cdi_devices_in(struct arena *a, const CRI_T(ContainerConfig) *in)
{
	char **names = arena_newn0(a, char *, in->n_cdi_devices + 1);

	for (size_t i = 0; i < in->n_cdi_devices; i++)
		names[i] = in->cdi_devices[i]->name;
	return in->n_cdi_devices > 0 ? names : NULL;
}

static int container_security_in(struct arena *a, const CRI_T(LinuxContainerSecurityContext) *in,
				 struct container_config *out, struct err *e)
{
	/* A caller with a security context says what is masked, nothing meaning nothing; one without has not
	 * thought of it. */
	if (!in) {
		out->masked_paths = (char **)container_spec_masked_paths;
		out->readonly_paths = (char **)container_spec_readonly_paths;
		return 0;
	}
	out->masked_paths = strv_in(a, in->n_masked_paths, in->masked_paths);
	out->readonly_paths = strv_in(a, in->n_readonly_paths, in->readonly_paths);
	if (in->capabilities) {
		const CRI_T(Capability) *caps = in->capabilities;

		out->add_capabilities = strv_in(a, caps->n_add_capabilities, caps->add_capabilities);
		out->drop_capabilities = strv_in(a, caps->n_drop_capabilities, caps->drop_capabilities);
		out->add_ambient_capabilities =
			strv_in(a, caps->n_add_ambient_capabilities, caps->add_ambient_capabilities);
	}
	out->privileged = in->privileged;
	out->readonly_rootfs = in->readonly_rootfs;
	out->no_new_privs = in->no_new_privs;
	out->selinux = selinux_in(a, in->selinux_options);
	out->run_as_user = int64_in(a, in->run_as_user);
	out->run_as_group = int64_in(a, in->run_as_group);
	out->run_as_username = text_in(in->run_as_username);
	if (out->run_as_user && out->run_as_username)
		return err_set(e, ERR_INVALID, "config.linux.security_context: both run_as_user and run_as_username");
	if (out->run_as_group && !out->run_as_user && !out->run_as_username)
		return err_set(e, ERR_INVALID, "config.linux.security_context.run_as_group without a user");
	out->supplemental_groups = groups_in(a, in->n_supplemental_groups, in->supplemental_groups);
	if (policy_in(in->supplemental_groups_policy, &out->groups_policy, e) < 0 ||
	    namespaces_in(a, in->namespace_options, &out->namespaces, e) < 0)
		return -1;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* older kubelets send them */
	if (profile_in(a, in->seccomp, in->seccomp_profile_path, "seccomp", &out->seccomp, e) < 0)
		return -1;
	return profile_in(a, in->apparmor, in->apparmor_profile, "apparmor", &out->apparmor, e);
#pragma GCC diagnostic pop
}

static int image_in(struct arena *a, const CRI_T(ImageSpec) *in, struct container_config *out, struct err *e)
{
	if (!in)
		return err_set(e, ERR_INVALID, "config.image is missing");
	if (require(in->image, "config.image.image", e) < 0)
		return -1;
	out->image = in->image;
	out->image_user_specified = text_in(in->user_specified_image);
	out->image_annotations = map_in(a, in->n_annotations, in->annotations);
	out->image_handler = text_in(in->runtime_handler);
	return 0;
}

/* Below the pod's log folder: knarrd must not be led to write elsewhere. */
static int log_path_in(const char *path, struct container_config *out, struct err *e)
{
	struct str rest = str_of(path);

	out->log_path = text_in(path);
	if (rest.len > 0 && path[0] == '/')
		return err_set(e, ERR_INVALID, "config.log_path \"%s\" is absolute", path);
	while (rest.p) {
		if (str_eqz(str_cut(&rest, '/'), ".."))
			return err_set(e, ERR_INVALID, "config.log_path \"%s\" leads out of the log directory", path);
	}
	return 0;
}

int container_config_in(struct arena *a, const CRI_T(ContainerConfig) *in, struct container_config *out,
			struct err *e)
{
	struct container_config w = { 0 };

	if (!in)
		return err_set(e, ERR_INVALID, "config is missing");
	if (in->windows)
		return err_set(e, ERR_INVALID, "config.windows: this is a Linux node");
	if (!in->metadata)
		return err_set(e, ERR_INVALID, "config.metadata is missing");
	if (require(in->metadata->name, "config.metadata.name", e) < 0 || image_in(a, in->image, &w, e) < 0 ||
	    envs_in(a, in, &w.envs, e) < 0 || mounts_in(a, in, &w.mounts, e) < 0 ||
	    devices_in(a, in, &w.devices, e) < 0 || log_path_in(in->log_path, &w, e) < 0)
		return -1;
	w.name = in->metadata->name;
	w.attempt = in->metadata->attempt;
	w.command = strv_in(a, in->n_command, in->command);
	w.args = strv_in(a, in->n_args, in->args);
	w.working_dir = text_in(in->working_dir);
	w.labels = map_in(a, in->n_labels, in->labels);
	w.annotations = map_in(a, in->n_annotations, in->annotations);
	w.cdi_devices = cdi_devices_in(a, in);
	w.stdin_open = in->stdin;
	w.stdin_once = in->stdin_once;
	w.tty = in->tty;
	w.stop_signal = signal_in(in->stop_signal);
	if (in->linux)
		w.resources = resources_in(a, in->linux->resources);
	if (container_security_in(a, in->linux ? in->linux->security_context : NULL, &w, e) < 0)
		return -1;
	*out = w;
	return 0;
}
