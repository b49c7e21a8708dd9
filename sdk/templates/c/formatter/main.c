// Writes a seccomp policy as lines of text.
//
// Every run has a fresh instance, whose memory goes with it: what is allocated here is not freed, except by the bindings.

#include <stdlib.h>

#include "guest.h"
#include "text.h"

// What the module says of itself.
void exports_gadget_framework_module_describe(exports_gadget_framework_module_description_t *ret) {
    gadget_framework_params_spec_t *one_line = calloc(1, sizeof *one_line);
    one_line->name = copy("one-line");
    one_line->help = copy("Write the names of a rule on one line.");
    one_line->kind.tag = GADGET_FRAMEWORK_PARAMS_KIND_BOOLEAN;
    one_line->default_.is_some = true;
    one_line->default_.val.tag = GADGET_FRAMEWORK_PARAMS_VALUE_BOOLEAN;
    one_line->default_.val.val.boolean = false;

    *ret = (exports_gadget_framework_module_description_t){
        .name = copy("my-module"),
        .version = copy("0.1.0"),
        .summary = copy("A seccomp policy as lines of text."),
        .params = {one_line, 1},
    };
}

// The parameter `one-line` of this run. It has a default, so it is always there.
static bool is_one_line(void) {
    gadget_framework_params_list_param_t params;
    gadget_framework_params_all(&params);
    for (size_t i = 0; i < params.len; i++) {
        if (equal(params.ptr[i].name, "one-line")) return params.ptr[i].value.val.boolean;
    }
    return false;
}

// What happens to a call, as a word: `allow`, `errno=38`.
static void add_action(text *to, const gadget_framework_policy_action_t *action) {
    static const char *const words[] = {
        [GADGET_FRAMEWORK_POLICY_ACTION_ALLOW] = "allow",
        [GADGET_FRAMEWORK_POLICY_ACTION_ERRNO] = "errno",
        [GADGET_FRAMEWORK_POLICY_ACTION_KILL_PROCESS] = "kill-process",
        [GADGET_FRAMEWORK_POLICY_ACTION_KILL_THREAD] = "kill-thread",
        [GADGET_FRAMEWORK_POLICY_ACTION_TRAP] = "trap",
        [GADGET_FRAMEWORK_POLICY_ACTION_LOG] = "log",
        [GADGET_FRAMEWORK_POLICY_ACTION_TRACE] = "trace",
        [GADGET_FRAMEWORK_POLICY_ACTION_NOTIFY] = "notify",
    };
    add(to, words[action->tag]);
    guest_option_u16_t value = {0};
    if (action->tag == GADGET_FRAMEWORK_POLICY_ACTION_ERRNO) value = action->val.errno;
    if (action->tag == GADGET_FRAMEWORK_POLICY_ACTION_TRACE) value = action->val.trace;
    if (value.is_some) {
        add(to, "=");
        add_number(to, value.val);
    }
}

static void add_architectures(text *to, gadget_framework_policy_list_architecture_t architectures) {
    static const char *const words[] = {
        [GADGET_FRAMEWORK_POLICY_ARCHITECTURE_X86_64] = "x86-64",
        [GADGET_FRAMEWORK_POLICY_ARCHITECTURE_X86] = "x86",
        [GADGET_FRAMEWORK_POLICY_ARCHITECTURE_X32] = "x32",
        [GADGET_FRAMEWORK_POLICY_ARCHITECTURE_AARCH64] = "aarch64",
        [GADGET_FRAMEWORK_POLICY_ARCHITECTURE_ARM] = "arm",
    };
    add(to, "architectures");
    for (size_t i = 0; i < architectures.len; i++) {
        add(to, " ");
        add(to, words[architectures.ptr[i]]);
    }
    add(to, "\n");
}

static void add_rule(text *to, const gadget_framework_policy_rule_t *rule, bool one_line) {
    for (size_t i = 0; i < rule->names.len; i++) {
        if (i == 0 || !one_line) add_action(to, &rule->action);
        add(to, " ");
        add_text(to, rule->names.ptr[i]);
        if (i + 1 == rule->names.len || !one_line) add(to, "\n");
    }
}

static void debug(const char *message, const char *name, uint64_t number) {
    text line = copy(message), value = {0};
    add_number(&value, number);
    gadget_framework_log_field_t field = {copy(name), value};
    gadget_framework_log_list_field_t fields = {&field, 1};
    gadget_framework_log_log(GADGET_FRAMEWORK_LOG_LEVEL_DEBUG, &line, &fields);
}

// What the module does. False: it failed, and `err` says why.
bool exports_gadget_framework_formatter_format(
    exports_gadget_framework_formatter_policy_t *policy,
    exports_gadget_framework_formatter_list_own_capture_t *about,
    exports_gadget_framework_formatter_object_head_t *maybe_object,
    exports_gadget_framework_formatter_document_t *ret,
    exports_gadget_framework_formatter_error_t *err) {
    (void)about;
    if (maybe_object != NULL) {
        err->tag = EXPORTS_GADGET_FRAMEWORK_FORMATTER_ERROR_UNSUPPORTED;
        err->val.unsupported = copy("lines of text are no ");
        add_text(&err->val.unsupported, maybe_object->kind);
        return false;
    }
    text body = copy("default ");
    add_action(&body, &policy->default_action);
    add(&body, "\n");
    add_architectures(&body, policy->architectures);
    size_t names = 0;
    bool one_line = is_one_line();
    for (size_t i = 0; i < policy->rules.len; i++) {
        const gadget_framework_policy_rule_t *rule = &policy->rules.ptr[i];
        // What the format cannot say is an error: left out, it would be another policy.
        if (rule->args.len > 0) {
            err->tag = EXPORTS_GADGET_FRAMEWORK_FORMATTER_ERROR_UNSUPPORTED;
            err->val.unsupported = copy("lines cannot say with which arguments ");
            add_text(&err->val.unsupported, rule->names.ptr[0]);
            add(&err->val.unsupported, " is called");
            return false;
        }
        add_rule(&body, rule, one_line);
        names += rule->names.len;
    }
    debug("written", "names", names);
    *ret = (exports_gadget_framework_formatter_document_t){copy("text/plain"), body};
    return true;
}
