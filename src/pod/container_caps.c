#include "pod/container_spec_parts.h"

#include <ctype.h>
#include <strings.h>

char *const capability_names[CAPABILITY_COUNT + 1] = {
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE",
	"CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT",
	"CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
	"CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN",
	"CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
	"CAP_CHECKPOINT_RESTORE", NULL,
};

/* docker's set, which images expect. */
static char *const default_set[] = {
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
	"CAP_AUDIT_WRITE", NULL,
};

/* A set of capabilities is one bit each, in the kernel's numbers. */
static uint64_t bits_of(char *const *names)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < CAPABILITY_COUNT; i++) {
		if (strv_has(names, capability_names[i]))
			bits |= UINT64_C(1) << i;
	}
	return bits;
}

static char **names_of(struct arena *a, uint64_t bits)
{
	char **names = arena_newn0(a, char *, CAPABILITY_COUNT + 1);
	size_t n = 0;

	for (size_t i = 0; i < CAPABILITY_COUNT; i++) {
		if (bits & (UINT64_C(1) << i))
			names[n++] = capability_names[i];
	}
	return n > 0 ? names : NULL;
}

/* Whether the list has ALL, and the bits of its other names. A name that no kernel knows is an error;
 * one that only this kernel does not know stays without effect, as pods are written for many nodes. */
static int list_parse(struct arena *a, char *const *list, const char *field, bool *all, uint64_t *bits,
		      struct err *e)
{
	*all = false;
	*bits = 0;
	for (; list && *list; list++) {
		char *name = arena_printf(a, "%s%s", strncasecmp(*list, "CAP_", 4) == 0 ? "" : "CAP_", *list);
		size_t i;

		for (char *p = name; *p; p++)
			*p = (char)toupper((unsigned char)*p);
		if (streq(name, "CAP_ALL")) {
			*all = true;
			continue;
		}
		for (i = 0; i < CAPABILITY_COUNT && !streq(capability_names[i], name); i++)
			;
		if (i == CAPABILITY_COUNT)
			return err_set(e, ERR_INVALID, "%s: there is no capability \"%s\"", field, *list);
		*bits |= UINT64_C(1) << i;
	}
	return 0;
}

int spec_capabilities(struct arena *a, const struct container_spec_input *in, struct oci_capabilities **out,
		      struct err *e)
{
	const struct container_config *c = in->config;
	struct oci_capabilities *caps = arena_new0(a, struct oci_capabilities);
	uint64_t known = bits_of(in->facts->capabilities), set = bits_of(default_set);
	uint64_t add, drop, ambient;
	bool add_all, drop_all, ambient_all;

	if (list_parse(a, c->add_capabilities, "add_capabilities", &add_all, &add, e) < 0 ||
	    list_parse(a, c->drop_capabilities, "drop_capabilities", &drop_all, &drop, e) < 0 ||
	    list_parse(a, c->add_ambient_capabilities, "add_ambient_capabilities", &ambient_all, &ambient, e) < 0)
		return -1;
	if (ambient_all)
		ambient = known;
	/* ALL comes first in each list, so that "ALL but" and "none but" can be said. */
	if (add_all)
		set = known;
	if (drop_all)
		set = 0;
	set = (set | add | ambient) & ~drop & known;
	if (c->privileged)
		set = known;
	ambient &= set;
	caps->bounding = caps->effective = caps->permitted = names_of(a, set);
	/* Only what is ambient is inheritable: with more, a program with file capabilities would gain what
	 * its user was not given (CVE-2022-24769). */
	caps->inheritable = caps->ambient = names_of(a, ambient);
	*out = caps;
	return 0;
}
