#include "pod/container_spec_parts.h"
#include "pod/seccomp_profile.h"

/* Files of /proc and /sys that tell too much of the host, or take too much from it. */
char *const container_spec_masked_paths[] = {
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
	"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
	"/sys/devices/virtual/powercap", "/sys/firmware", NULL,
};
char *const container_spec_readonly_paths[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL,
};

static int check_paths(const char *field, char *const *paths, struct err *e)
{
	for (; paths && *paths; paths++) {
		if ((*paths)[0] != '/')
			return err_set(e, ERR_INVALID, "%s: \"%s\" is not absolute", field, *paths);
	}
	return 0;
}

static int profile_of(const struct container_spec_input *in, const struct config_profile *wish,
		      struct arena *a, struct seccomp_profile *own, const struct seccomp_profile **out,
		      struct err *e)
{
	*out = NULL;
	switch (wish->type) {
	case CONFIG_PROFILE_UNCONFINED:
		return 0;
	case CONFIG_PROFILE_DEFAULT:
		*out = in->facts->seccomp_supported ? &seccomp_default_profile : NULL;
		return 0;
	case CONFIG_PROFILE_LOCALHOST:
		if (!in->facts->seccomp_supported)
			return err_set(e, ERR_STATE, "seccomp profile \"%s\": this kernel has no seccomp",
				       wish->localhost);
		if (!in->seccomp.p)
			return err_set(e, ERR_NOT_FOUND, "seccomp profile \"%s\" was not found", wish->localhost);
		if (seccomp_profile_parse(a, in->seccomp, own, e) < 0)
			return err_in(e, "%s", wish->localhost);
		*out = own;
		return 0;
	}
	return err_set(e, ERR_INVALID, "seccomp: unknown profile_type %d", (int)wish->type);
}

static int seccomp(struct arena *a, const struct container_spec_input *in, struct oci_config *c, struct err *e)
{
	const struct config_profile *wish = in->config->seccomp;
	struct seccomp_profile own;
	const struct seccomp_profile *profile;
	struct seccomp_target target = {
		.caps = c->process->capabilities->bounding,
		.kernel_major = in->facts->kernel_major, .kernel_minor = in->facts->kernel_minor,
	};

	if (!wish || config_is_privileged(in))
		return 0;
	if (profile_of(in, wish, a, &own, &profile, e) < 0)
		return -1;
	if (!profile)
		return 0;
	c->on_linux->seccomp = arena_new0(a, struct oci_seccomp);
	return seccomp_profile_resolve(a, profile, &target, c->on_linux->seccomp, e);
}

static int apparmor(const struct container_spec_input *in, struct oci_config *c, struct err *e)
{
	const struct config_profile *wish = in->config->apparmor;
	enum config_profile_type type = wish ? wish->type : CONFIG_PROFILE_DEFAULT;

	if (type == CONFIG_PROFILE_UNCONFINED)
		return 0;
	if (type == CONFIG_PROFILE_LOCALHOST) {
		if (!in->facts->apparmor_supported)
			return err_set(e, ERR_STATE, "AppArmor profile \"%s\": AppArmor is not on here",
				       wish->localhost);
		if (str_is_empty(wish->localhost))
			return err_set(e, ERR_INVALID, "apparmor: localhost_ref is empty");
		c->process->apparmor_profile = wish->localhost;
		return 0;
	}
	if (type != CONFIG_PROFILE_DEFAULT)
		return err_set(e, ERR_INVALID, "apparmor: unknown profile_type %d", (int)type);
	if (in->facts->apparmor_supported && !config_is_privileged(in))
		c->process->apparmor_profile = (char *)in->facts->apparmor_default;
	return 0;
}

/* Two categories of 1024 that set this pod apart from others, always the same for it. */
static char *level_of_pod(struct arena *a, const char *pod_id)
{
	uint64_t hash = str_hash(pod_id);
	unsigned x = (unsigned)(hash % 1024), y = (unsigned)((hash >> 20) % 1023);

	if (y >= x)
		y++;
	return arena_printf(a, "s0:c%u,c%u", MIN(x, y), MAX(x, y));
}

static const struct config_selinux *selinux_wish(const struct container_spec_input *in)
{
	static const struct config_selinux none;

	if (in->config->selinux)
		return in->config->selinux;
	return in->pod->selinux ? in->pod->selinux : &none;
}

static const char *or_else(const char *text, const char *otherwise)
{
	return str_is_empty(text) ? otherwise : text;
}

const char *container_spec_mount_label(struct arena *a, const struct container_spec_input *in)
{
	const struct config_selinux *wish = selinux_wish(in);

	if (!in->facts->selinux_supported)
		return NULL;
	return arena_printf(a, "%s:object_r:container_file_t:%s", or_else(wish->user, "system_u"),
			    str_is_empty(wish->level) ? level_of_pod(a, in->pod_id) : wish->level);
}

static void selinux(struct arena *a, const struct container_spec_input *in, struct oci_config *c)
{
	const struct config_selinux *wish = selinux_wish(in);

	if (!in->facts->selinux_supported)
		return;
	c->on_linux->mount_label = (char *)container_spec_mount_label(a, in);
	if (config_is_privileged(in))
		return;
	c->process->selinux_label = arena_printf(
		a, "%s:%s:%s:%s", or_else(wish->user, "system_u"), or_else(wish->role, "system_r"),
		or_else(wish->type, "container_t"),
		str_is_empty(wish->level) ? level_of_pod(a, in->pod_id) : wish->level);
}

int spec_security(struct arena *a, const struct container_spec_input *in, struct oci_config *c, struct err *e)
{
	const struct container_config *wish = in->config;

	if (check_paths("masked_paths", wish->masked_paths, e) < 0 ||
	    check_paths("readonly_paths", wish->readonly_paths, e) < 0)
		return -1;
	if (!config_is_privileged(in)) {
		c->on_linux->masked_paths = wish->masked_paths;
		c->on_linux->readonly_paths = wish->readonly_paths;
	}
	c->process->no_new_privileges = wish->no_new_privs;
	selinux(a, in, c);
	if (apparmor(in, c, e) < 0)
		return -1;
	return seccomp(a, in, c, e);
}
