package dsn

import "behalf/mail"

// Explain says in plain words what a failure means and what to try.
func Explain(f *mail.Failure) string {
	if f == nil {
		return ""
	}
	return advice(f.Reason)
}

// advice says what happened and what to try, for the person who wrote the message.
func advice(r mail.Reason) string {
	switch r {
	case mail.ReasonInternal:
		return "Something went wrong on our side. You need not change anything; send the message again later, and tell your administrator if it happens again."
	case mail.ReasonNoMailbox:
		return "The address does not exist. Check it for typing mistakes, and ask the recipient for the right one by another way."
	case mail.ReasonMailboxFull:
		return "The recipient's mailbox is full. Try again in a few days, or reach the recipient by another way."
	case mail.ReasonNoDomain:
		return "The part of the address after the @ does not exist or takes no mail. Check it for typing mistakes."
	case mail.ReasonTooLarge:
		return "The message is larger than the recipient's server takes. Send it without the attachments, or share them by a link."
	case mail.ReasonContent:
		return "The recipient's server refused the message for what it contains. Look for links or attachments that may seem dangerous, change them and send it again."
	case mail.ReasonCannotCarry:
		return "A server on the way cannot carry a message of this form, for example an address with letters outside ASCII. Try another address of the recipient, or a plainer message."
	case mail.ReasonAuth:
		return "The mail account that sends for you did not accept our log-in. Your administrator must connect the account again; then send the message once more."
	case mail.ReasonSenderRefused:
		return "The mail account that sends for you may not use this From address. Your administrator must allow it there or choose another address."
	case mail.ReasonRate:
		return "A server asked us to send more slowly for longer than the message could wait. Send it again later."
	case mail.ReasonBlocked:
		return "The recipient's server refuses mail from our servers at present. The address itself may be right: reach the recipient by another way, and tell your administrator."
	case mail.ReasonTLS:
		return "No sufficiently secure connection to the recipient's server could be made, and the message is not sent without one. Tell your administrator."
	case mail.ReasonUnreachable:
		return "The recipient's server could not be reached. Send the message again later; if it keeps failing, the recipient's mail service may be down."
	case mail.ReasonDNS:
		return "The recipient's mail server could not be looked up. Check the part of the address after the @, and send the message again later."
	case mail.ReasonProtocol:
		return "The recipient's server answered in a way that makes no sense. Send the message again later, or reach the recipient by another way."
	case mail.ReasonUnresolved:
		return "The recipient's server never confirmed that it took the message. It may have arrived: ask the recipient before you send it again."
	case mail.ReasonPolicy:
		return "The rules of your platform do not allow this message. Its administrator can say why."
	case mail.ReasonUnauthentic:
		return "The message could not be sent in a way that proves it comes from its From address. Your administrator must finish the set-up of that address's domain."
	case mail.ReasonExpired:
		return "The message could not be delivered in the time it was given. Send it again if it still matters."
	case mail.ReasonSuppressed:
		return "Earlier messages to this address came back, or the recipient asked for no more, so nothing is sent there. Your administrator can lift that if it is wrong."
	case mail.ReasonLoop:
		return "The message came round to us again and would have gone in circles. A forwarding of the recipient is set up wrongly: tell the recipient by another way."
	case mail.ReasonTemporary:
		return "The recipient's server put the message off for longer than it could wait. Send it again later."
	case mail.ReasonForbiddenHost:
		return "The mail server that was set up for you is on a network we do not connect to. Your administrator must give another one."
	case mail.ReasonUpstreamAbsent:
		return "The way that was set up for your mail is not there any more. Your administrator must choose another one."
	}
	return "The recipient's server refused the message. Its answer below may say why."
}
