#include "kernel/caps.h"

#include "base/str.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const name_of[] = {
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
	"CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
};

int cap_by_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(name_of); i++)
		if (streq(name_of[i], name))
			return (int)i;
	return -1;
}

const char *cap_name(int bit)
{
	return bit >= 0 && (size_t)bit < ARRAY_SIZE(name_of) ? name_of[bit] : NULL;
}

uint64_t caps_by_names(char *const *names, const char **unknown)
{
	uint64_t bits = 0;

	for (; names && *names; names++) {
		int bit = cap_by_name(*names);

		if (bit >= 0)
			bits |= UINT64_C(1) << bit;
		else if (unknown)
			*unknown = *names;
	}
	return bits;
}

uint64_t caps_own_bounding(void)
{
	uint64_t own = 0;

	for (int bit = 0; bit < 64; bit++) {
		int has = prctl(PR_CAPBSET_READ, bit, 0, 0, 0);

		if (has < 0)
			break; /* the kernel's last one was before */
		own |= (uint64_t)has << bit;
	}
	return own;
}

int caps_drop_bounding(uint64_t own, uint64_t keep, struct err *e)
{
	for (int bit = 0; bit < 64; bit++)
		if ((own & ~keep) >> bit & 1 && prctl(PR_CAPBSET_DROP, bit, 0, 0, 0) < 0)
			return err_sys(e, errno, "drop %s from the bounding set",
				       cap_name(bit) ? cap_name(bit) : "a capability");
	return 0;
}

int caps_keep_over_setuid(struct err *e)
{
	return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 ? err_sys(e, errno, "keep capabilities") : 0;
}

int caps_set(const struct caps *c, struct err *e)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	for (int i = 0; i < 2; i++)
		data[i] = (struct __user_cap_data_struct){
			.effective = (uint32_t)(c->effective >> 32 * i),
			.permitted = (uint32_t)(c->permitted >> 32 * i),
			.inheritable = (uint32_t)(c->inheritable >> 32 * i),
		};
	if (syscall(SYS_capset, &head, data) < 0)
		return err_sys(e, errno, "set capabilities (capset)");
	for (int bit = 0; bit < 64; bit++)
		if (c->ambient >> bit & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, bit, 0, 0) < 0)
			return err_sys(e, errno, "raise %s as an ambient capability",
				       cap_name(bit) ? cap_name(bit) : "a capability");
	return 0;
}

uint64_t caps_all(void)
{
	uint64_t all = 0;

	for (int bit = 0; bit < 64 && prctl(PR_CAPBSET_READ, bit, 0, 0, 0) >= 0; bit++)
		all |= UINT64_C(1) << bit;
	return all;
}
